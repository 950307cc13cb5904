"""Files and folders to inputs: find them, read them, cut their text into passages that fit the model.

``scan`` finds files, ``read_file`` turns one into sections under headings, ``split`` cuts those into passages;
``visual_inputs`` finds what there is to see in one: an image, the pages of a PDF, a video. Nothing here loads what a
document points at, runs what it holds, or expands what it defines.

Example:
    >>> log = SkipLog()
    >>> for file, document in read_files(scan("docs", skipped=log), log):  # doctest: +SKIP
    ...     passages = list(split(document.sections, max_tokens=256, count_tokens=count, source=file.relative))
"""

from .frame_folder import FrameFolder
from .images import IMAGE_SUFFIXES, ImageFile, as_rgb, load_image
from .jsonl import JsonlFields
from .passages import split
from .pdf_pages import PdfPageImage, PdfPages
from .problems import SkipLog, Skipped, UnreadableFileError
from .readers import ReadOptions, format_of, read_file, read_files, stream_file
from .sections import Document, Passage, Section
from .video import VIDEO_SUFFIXES, VideoFile, read_frames
from .visual import VisualInput, read_visual_files, thumbnail, visual_format_of, visual_inputs
from .walk import FoundFile, content_hash, scan

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Document",
    "FoundFile",
    "FrameFolder",
    "ImageFile",
    "JsonlFields",
    "Passage",
    "PdfPageImage",
    "PdfPages",
    "ReadOptions",
    "Section",
    "SkipLog",
    "Skipped",
    "UnreadableFileError",
    "VideoFile",
    "VisualInput",
    "as_rgb",
    "content_hash",
    "format_of",
    "load_image",
    "read_file",
    "read_files",
    "read_frames",
    "read_visual_files",
    "scan",
    "split",
    "stream_file",
    "thumbnail",
    "visual_format_of",
    "visual_inputs",
]
