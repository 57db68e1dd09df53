//! Reads property lists in Apple's XML form: dictionaries, arrays, strings, booleans.
//!
//! A duplicate key in a dictionary is an error: Apple does not document which value counts, and the pins of
//! the other one would be lost.

use std::borrow::Cow;

use roxmltree::{Document, Node};

use super::{ImportError, Problem, literal, text, xml};

/// The property lists in `bytes`, in XML: the text itself, a fragment with the missing elements added
/// around it, or the dictionaries of the keys `roots` in source text.
pub(super) fn lists<'a>(bytes: &'a [u8], roots: &[&str]) -> Result<Vec<Cow<'a, str>>, ImportError> {
    if bytes.starts_with(b"bplist") {
        return Err(Problem::BinaryPlist.at(1));
    }
    let text = text(bytes)?;
    let start = text.trim_start();
    if !start.starts_with('<') {
        let lists = literal::property_lists(text, roots)?;
        return Ok(lists.into_iter().map(Cow::Owned).collect());
    }
    // Documentation shows a part of a file.
    let mut inner = start;
    while let Some(end) = inner.strip_prefix("<!--").and_then(|rest| rest.find("-->")) {
        inner = inner[end + 7..].trim_start();
    }
    Ok(vec![match inner {
        _ if inner.starts_with("<key>") => {
            Cow::Owned(format!("<plist><dict>{text}</dict></plist>"))
        }
        _ if inner.starts_with("<dict") => Cow::Owned(format!("<plist>{text}</plist>")),
        _ => Cow::Borrowed(text),
    }])
}

/// The only value of the property list.
pub(super) fn root<'a, 'input>(
    document: &'a Document<'input>,
) -> Result<Node<'a, 'input>, ImportError> {
    let root = document.root_element();
    let mut values = xml::elements(root);
    match (root.tag_name().name(), values.next(), values.next()) {
        ("plist", Some(value), None) => Ok(value),
        ("plist", ..) => {
            Err(Problem::unexpected("plist", "a plist with one value").at(xml::line(root)))
        }
        (other, ..) => Err(Problem::unexpected(other, "a plist").at(xml::line(root))),
    }
}

/// A dictionary.
#[derive(Clone, Debug)]
pub(super) struct Dictionary<'a, 'input> {
    entries: Vec<(String, Node<'a, 'input>)>,
}

impl<'a, 'input> Dictionary<'a, 'input> {
    pub(super) fn new(node: Node<'a, 'input>) -> Result<Self, ImportError> {
        expect(node, "dict", "a dictionary")?;
        let mut entries: Vec<(String, Node<'a, 'input>)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut elements = xml::elements(node);
        while let Some(key) = elements.next() {
            expect(key, "key", "a key")?;
            let name = xml::text(key)?;
            let value = elements.next().ok_or_else(|| {
                Problem::unexpected(&name, "a key with a value").at(xml::line(key))
            })?;
            if !seen.insert(name.clone()) {
                return Err(Problem::twice(&name).at(xml::line(key)));
            }
            entries.push((name, value));
        }
        Ok(Self { entries })
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a, 'input>> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The dictionary that is the value of a key.
    pub(super) fn dictionary(&self, name: &str) -> Result<Option<Self>, ImportError> {
        self.get(name).map(Self::new).transpose()
    }

    /// The boolean value of a key, or `default` if the key is missing.
    pub(super) fn truth(&self, name: &str, default: bool) -> Result<bool, ImportError> {
        let Some(node) = self.get(name) else {
            return Ok(default);
        };
        truth(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Node<'a, 'input>)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// Fails if the key of `value` is an identifier of the source, whose value is unknown.
pub(super) fn has_literal_key(value: Node<'_, '_>) -> Result<(), ImportError> {
    let key = value.prev_sibling_element().filter(|key| key.has_attribute("word"));
    match key {
        Some(key) => Err(Problem::unsupported(
            &xml::text(key)?,
            "what it stands for is not in this text as a literal; write the host in its place, or import \
             it and its pins as a line \"HOST sha256/...\"",
        )
        .at(xml::line(key))),
        None => Ok(()),
    }
}

/// A boolean.
pub(super) fn truth(node: Node<'_, '_>) -> Result<bool, ImportError> {
    match node.tag_name().name() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Problem::unexpected(other, "true or false").at(xml::line(node))),
    }
}

/// The elements of an array.
pub(super) fn array<'a, 'input: 'a>(
    node: Node<'a, 'input>,
) -> Result<impl Iterator<Item = Node<'a, 'input>>, ImportError> {
    expect(node, "array", "an array")?;
    Ok(xml::elements(node))
}

/// A string.
pub(super) fn string(node: Node<'_, '_>) -> Result<String, ImportError> {
    expect(node, "string", "a string")?;
    xml::text(node)
}

fn expect(node: Node<'_, '_>, name: &str, wanted: &'static str) -> Result<(), ImportError> {
    match node.tag_name().name() {
        found if found == name => Ok(()),
        // An identifier of the source, or a concatenation that cannot be resolved.
        "unknown" => {
            let why = "what it stands for is not in this text as a literal; write that in its place, or import the \
                       host and its pins as a line \"HOST sha256/...\"";
            let found = xml::text(node).unwrap_or_default();
            Err(Problem::unsupported(&found, why).at(xml::line(node)))
        }
        found => Err(Problem::unexpected(found, wanted).at(xml::line(node))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_a_dictionary_is_an_error() {
        for (list, line, problem) in [
            ("<dict/>", 1, Problem::unexpected("dict", "a plist")),
            (
                "<plist><dict/>\n<dict/></plist>",
                1,
                Problem::unexpected("plist", "a plist with one value"),
            ),
            ("<plist>\n<array/></plist>", 2, Problem::unexpected("array", "a dictionary")),
            (
                "<plist><dict>\n<string>a</string></dict></plist>",
                2,
                Problem::unexpected("string", "a key"),
            ),
            (
                "<plist><dict><key>a</key></dict></plist>",
                1,
                Problem::unexpected("a", "a key with a value"),
            ),
            (
                "<plist><dict><key>a</key><true/>\n<key>a</key><true/></dict></plist>",
                2,
                Problem::twice("a"),
            ),
        ] {
            let document = xml::document(list).unwrap();
            let read = root(&document).and_then(Dictionary::new).map(|_| ());
            assert_eq!(read, Err(problem.at(line)), "{list}");
        }
        assert_eq!(lists(b"bplist00", &[]), Err(Problem::BinaryPlist.at(1)));
    }

    #[test]
    fn a_fragment_gets_the_missing_elements() {
        for (text, wanted) in [
            ("<plist/>", "<plist/>"),
            (
                "<!-- a -->\n<key>a</key><true/>",
                "<plist><dict><!-- a -->\n<key>a</key><true/></dict></plist>",
            ),
            ("<dict/>", "<plist><dict/></plist>"),
        ] {
            assert_eq!(lists(text.as_bytes(), &[]), Ok(vec![Cow::Borrowed(wanted)]), "{text}");
        }
    }
}
