"""Images, pages of PDFs and videos: what a model looks at, decoded only when it is needed.

``visual_inputs`` finds what there is to see in a file: an image, the pages of a PDF, a video. Nothing here loads what a
file refers to, or runs what it holds.

Example:
    >>> for page in visual_inputs("report.pdf"):  # doctest: +SKIP
    ...     page.source.load().save(f"page{page.page}.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .images import ImageFile as ImageFile
    from .images import as_rgb as as_rgb
    from .images import load_image as load_image
    from .pdf_pages import PdfPageImage as PdfPageImage
    from .pdf_pages import PdfPages as PdfPages
    from .pdf_pages import close_documents as close_documents
    from .sources import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from .sources import VIDEO_SUFFIXES as VIDEO_SUFFIXES
    from .sources import Frames as Frames
    from .sources import ImageSource as ImageSource
    from .sources import VideoSource as VideoSource
    from .sources import visual_format_of as visual_format_of
    from .video import FrameFolder as FrameFolder
    from .video import VideoFile as VideoFile
    from .video import read_frames as read_frames
    from .visual_inputs import VisualInput as VisualInput
    from .visual_inputs import read_visual_files as read_visual_files
    from .visual_inputs import thumbnail as thumbnail
    from .visual_inputs import visual_inputs as visual_inputs

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "images": ("ImageFile", "as_rgb", "load_image"),
        "pdf_pages": ("PdfPageImage", "PdfPages", "close_documents"),
        "sources": ("Frames", "IMAGE_SUFFIXES", "ImageSource", "VIDEO_SUFFIXES", "VideoSource", "visual_format_of"),
        "video": ("FrameFolder", "VideoFile", "read_frames"),
        "visual_inputs": ("VisualInput", "read_visual_files", "thumbnail", "visual_inputs"),
    },
)
