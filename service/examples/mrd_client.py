"""Send a scan in ISMRMRD's HDF5 to the streaming server as a scanner does, and save the images that come back.

pip install ismrmrd
python mrd_client.py scan.h5 images.h5 cs-wavelet 127.0.0.1 9002
"""

import socket
import sys
import threading

import ismrmrd
from ismrmrd.serialization import ConfigText, ProtocolDeserializer, ProtocolSerializer

scan, images, configuration, host, port = sys.argv[1:]
with socket.create_connection((host, int(port))) as connection:
    output = ismrmrd.Dataset(images, "dataset")

    def receive() -> None:
        """Images come back while readouts are still sent."""
        for item in ProtocolDeserializer(connection.makefile("rb")).deserialize():
            if isinstance(item, ismrmrd.Image):
                output.append_image("images_0", item)
                print(f"slice {item.slice}: {item.data.shape} {item.data.dtype}")
            else:
                print(item)

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    with ismrmrd.Dataset(scan, "dataset", create_if_needed=False) as file, connection.makefile("wb") as stream:
        session = ProtocolSerializer(stream)
        session.serialize(ConfigText(configuration))
        session.serialize(ismrmrd.xsd.CreateFromDocument(file.read_xml_header()))
        for number in range(file.number_of_acquisitions()):
            session.serialize(file.read_acquisition(number))
        session.close()
    receiver.join()
    output.close()
