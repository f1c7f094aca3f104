"""XML from outside, parsed without entities, external subsets and network access."""

from __future__ import annotations

from lxml import etree


class BrokenXmlError(ValueError):
    """The content is not well-formed XML, or is larger than the parser allows."""


class DoctypeError(ValueError):
    """The content declares a document type. Entities are defined there, and hostile ones expand without end."""


def parse_xml(content: bytes) -> etree._Element:
    """Return the root element of an XML document.

    Elements lie at most 256 deep, and a text has at most ten million characters: the limits of libxml2.

    Raises
    ------
    BrokenXmlError
        If the document is not well-formed or exceeds a limit; the message has the reason, without a full stop.
    DoctypeError
        If it declares a document type, which none of the formats that floemap reads needs.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as e:
        raise BrokenXmlError(e.msg) from e
    if root.getroottree().docinfo.doctype:  # type: ignore[union-attr]  # the stubs lack it
        raise DoctypeError("declares a document type, which may define hostile entities")
    return root
