"""Files to and from the hub, in bounded memory; every byte is hashed once, while it is at hand.

uploads.py    to the hub: in one request, or in chunks that outlive a cut or a kill
downloads.py  from the hub: in one stream, or by several ranges at once
options.py    how long chunks are, how many go at once, and how fast
pace.py       how far a transfer is and how long it will take
"""

from hansa.transfers.downloads import download_file
from hansa.transfers.files import digest_file
from hansa.transfers.options import TransferOptions
from hansa.transfers.pace import Meter, Pace
from hansa.transfers.streams import OnBytes
from hansa.transfers.throttles import Throttle, parse_rate
from hansa.transfers.uploads import UploadRoute, send_file, upload_file

__all__ = [
    "Meter",
    "OnBytes",
    "Pace",
    "Throttle",
    "TransferOptions",
    "UploadRoute",
    "digest_file",
    "download_file",
    "parse_rate",
    "send_file",
    "upload_file",
]
