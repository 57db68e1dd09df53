//! Parses XML with limits: no entities, and a bounded size, number of nodes and depth.

use std::cell::RefCell;

use roxmltree::{Document, Node, ParsingOptions};

use super::{ImportError, MAX_XML_DEPTH, Problem, shown};

/// The most nodes of a document.
const MAX_NODES: u32 = 200_000;

/// Parses a document. The document may name a document type, as property lists do, but the type is not
/// loaded and may not declare entities.
pub(super) fn document(text: &str) -> Result<Document<'_>, ImportError> {
    if let Some(at) = text.find("<!ENTITY") {
        return Err(Problem::Entities.at(line_of(text, at)));
    }
    if !text.trim_start().starts_with('<') && text.contains('<') {
        return Err(Problem::NoXml.at(1));
    }
    let options =
        ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| {
        let line = usize::try_from(error.pos().row).unwrap_or(1);
        Problem::Xml(shown::shown(&error.to_string())).at(line)
    })?;
    let deep =
        |node: &Node<'_, '_>| node.ancestors().take(MAX_XML_DEPTH + 2).count() > MAX_XML_DEPTH + 1;
    LINES.with_borrow_mut(|lines| *lines = Lines::of(text));
    match document.descendants().find(|node| node.is_element() && deep(node)) {
        Some(node) => Err(Problem::TooDeep.at(line(node))),
        None => Ok(document),
    }
}

thread_local! {
    /// The line ends of the last parsed document. The library counts lines from the top for every node,
    /// which takes minutes for a file of the largest size.
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { text: (0, 0), ends: Vec::new() }) };
}

struct Lines {
    /// The address and length of the text, which identify it.
    text: (usize, usize),
    ends: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { text: Self::place(text), ends }
    }

    fn place(text: &str) -> (usize, usize) {
        (text.as_ptr().addr(), text.len())
    }
}

/// The line on which a node begins.
pub(super) fn line(node: Node<'_, '_>) -> usize {
    let start = node.range().start;
    LINES.with_borrow(|lines| match lines.text == Lines::place(node.document().input_text()) {
        true => 1 + lines.ends.partition_point(|end| *end < start),
        false => line_of(node.document().input_text(), start),
    })
}

/// The elements in a node.
pub(super) fn elements<'a, 'input: 'a>(
    node: Node<'a, 'input>,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

/// The text of an element without child elements, without surrounding white space.
pub(super) fn text(node: Node<'_, '_>) -> Result<String, ImportError> {
    if let Some(element) = elements(node).next() {
        let found = element.tag_name().name();
        return Err(Problem::unexpected(found, "text").at(line(element)));
    }
    // Comments split a text into several nodes.
    let texts = node.children().filter(Node::is_text).filter_map(|child| child.text());
    Ok(texts.collect::<String>().trim().to_owned())
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> (usize, Problem) {
        let error = document(text).map(|_| ()).unwrap_err();
        (error.line, error.problem)
    }

    #[test]
    fn entities_and_deep_nesting_are_refused() {
        let entities = "<!DOCTYPE a [\n<!ENTITY b \"bbbb\">\n]><a>&b;</a>";
        assert_eq!(problem(entities), (2, Problem::Entities));
        // A reference to an undeclared entity is an error.
        assert!(matches!(problem("<a>\n&b;</a>"), (2, Problem::Xml(_))));
        let nested = |depth| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(document(&nested(MAX_XML_DEPTH)).is_ok());
        assert_eq!(problem(&nested(MAX_XML_DEPTH + 1)), (1, Problem::TooDeep));
        assert_eq!(problem(&nested(50_000)), (1, Problem::TooDeep));
        let many = format!("<a>{}</a>", "<b/>".repeat(300_000));
        assert!(matches!(problem(&many), (_, Problem::Xml(_))));
        assert!(matches!(problem("<a>\n<b></a>"), (2, Problem::Xml(_))));
    }

    #[test]
    fn text_and_cdata_are_joined_and_elements_refused() {
        let parsed = document("<a> x<!-- no -->y<![CDATA[z]]>&amp; </a>").unwrap();
        assert_eq!(text(parsed.root_element()), Ok("xyz&".to_owned()));
        let parsed = document("<a>x\n<b/></a>").unwrap();
        assert_eq!(text(parsed.root_element()), Err(Problem::unexpected("b", "text").at(2)));
    }
}
