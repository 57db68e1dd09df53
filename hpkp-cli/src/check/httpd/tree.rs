//! The tree of directives that httpd has after reading the whole configuration: included files, macros and
//! conditions are replaced by their directives.

use std::collections::{HashMap, HashSet};

use hpkp_core::finding::{Finding, Location};
use hpkp_core::text::Excerpt;

use super::super::files::{Files, full_path, is_mask};
use super::super::problem::{Problems, Read, invalid, unreadable};
use super::condition::{Version, has_directive, version};
use super::known::is_known;
use super::words::{Line, first_word, lines, resolved, words};

/// httpd's own limit for nested includes.
const MAX_INCLUDES: usize = 20;

/// The most lines after the expansion of macros and files.
const MAX_LINES: usize = 2_000_000;

/// How deep sections and uses of macros may be nested.
const MAX_DEPTH: usize = 64;

/// The modules that are compiled into the program, in Debian and in a default build.
const BUILT_IN: [&str; 11] = [
    "core",
    "so",
    "watchdog",
    "http",
    "log_config",
    "logio",
    "version",
    "unixd",
    "http_core",
    "mod_core",
    "mod_so",
];

/// A directive or a section.
#[derive(Debug)]
pub(super) struct Directive {
    /// The name as written in the configuration; the name of a section begins with `<`.
    pub(super) name: String,
    /// The arguments; those of a section without the closing bracket.
    pub(super) arguments: String,
    pub(super) at: Location,
    /// The directives in a section.
    pub(super) inner: Vec<Directive>,
    /// A variable in the arguments that has no value.
    pub(super) undefined: Option<String>,
}

impl Directive {
    /// The name in lower case.
    pub(super) fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    pub(super) fn words(&self) -> Vec<String> {
        words(&self.arguments)
    }
}

/// A macro of mod_macro.
#[derive(Debug)]
struct Macro {
    name: String,
    parameters: Vec<String>,
    lines: Vec<Line>,
    at: Location,
}

/// The state of the reader.
pub(super) struct Reader<'a> {
    files: &'a mut Files,
    problems: &'a mut Problems,
    /// The value of `ServerRoot`.
    pub(super) root: String,
    /// The names of `Define` and `-D`, with their values if they have one.
    defines: HashMap<String, Option<String>>,
    /// The environment variables of httpd.
    environment: HashMap<String, String>,
    /// The loaded modules, by the names that `<IfModule>` takes.
    modules: HashSet<String>,
    /// Whether the configuration loads a module. A part of a configuration loads none.
    pub(super) loads: bool,
    /// Whether every module counts as loaded.
    assumes_modules: bool,
    macros: HashMap<String, Macro>,
    open: Vec<String>,
    count: usize,
}

/// The lines of one file or macro, while they are read.
struct Input<'l> {
    lines: &'l [Line],
    next: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        files: &'a mut Files,
        problems: &'a mut Problems,
        root: String,
        defines: &[String],
        environment: HashMap<String, String>,
        assumes_modules: bool,
    ) -> Self {
        let define = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        };
        Self {
            files,
            problems,
            root,
            defines: defines.iter().map(define).collect(),
            environment,
            modules: HashSet::new(),
            loads: false,
            assumes_modules,
            macros: HashMap::new(),
            open: Vec::new(),
            count: 0,
        }
    }

    /// Whether a module is loaded, by its file name without `mod_` and the extension.
    pub(super) fn has_module(&self, name: &str) -> bool {
        self.assumes_modules || self.modules.contains(name) || BUILT_IN.contains(&name)
    }

    /// The directives of the first file.
    pub(super) fn main(&mut self, name: &str, text: &[u8]) -> Read<Vec<Directive>> {
        let mut all = Vec::new();
        self.open.push(name.to_owned());
        self.all_of(&lines(name, text), &mut all, 0)?;
        Ok(all)
    }

    fn all_of(&mut self, lines: &[Line], into: &mut Vec<Directive>, depth: usize) -> Read<()> {
        let mut input = Input { lines, next: 0 };
        while input.next < input.lines.len() {
            self.one(&mut input, into, depth)?;
        }
        Ok(())
    }

    /// Reads the next directive or section.
    fn one(&mut self, input: &mut Input<'_>, into: &mut Vec<Directive>, depth: usize) -> Read<()> {
        let line = &input.lines[input.next];
        input.next += 1;
        let at = &line.at;
        self.count += 1;
        if self.count > MAX_LINES {
            return Err(unreadable(at, format!("more than {MAX_LINES} lines")));
        }
        if depth > MAX_DEPTH {
            return Err(unreadable(at, format!("sections are nested more than {MAX_DEPTH} deep")));
        }
        let (text, undefined) = resolved(&line.text, |name| self.value(name));
        let (name, rest) = first_word(&text);
        let key = name.to_ascii_lowercase();
        if let Some(section) = name.strip_prefix("</") {
            let section = Excerpt::new(section.trim_end_matches('>'));
            return Err(invalid(at, format!("</{section}> without matching <{section}> section")));
        }
        if name.starts_with('<') {
            return self.section(input, (name, rest, at.clone(), undefined), into, depth);
        }
        match key.as_str() {
            "include" | "includeoptional" => {
                self.include(rest, key == "includeoptional", at, undefined.as_deref(), into, depth)
            }
            "error" => Err(invalid(at, rest.to_owned())),
            "use" => self.use_macro(rest, at, into, depth),
            _ if self.is_setting(&key, rest) => Ok(()),
            _ => {
                let arguments = rest.to_owned();
                into.push(Directive {
                    name,
                    arguments,
                    at: at.clone(),
                    inner: Vec::new(),
                    undefined,
                });
                Ok(())
            }
        }
    }

    /// Applies a directive that affects only the reading of the configuration, and says whether it was one.
    fn is_setting(&mut self, key: &str, rest: &str) -> bool {
        match key {
            "define" => {
                let words = words(rest);
                if let Some((name, value)) = words.split_first() {
                    self.defines.insert(name.clone(), value.first().cloned());
                }
            }
            "undefine" => {
                self.defines.remove(rest);
            }
            "loadmodule" => self.load(rest),
            "serverroot" => {
                let (root, _) = first_word(rest);
                if !root.is_empty() {
                    self.root = root;
                }
            }
            "undefmacro" => {
                self.macros.remove(&rest.to_ascii_lowercase());
            }
            _ => return false,
        }
        true
    }

    fn value(&self, name: &str) -> Option<String> {
        match self.defines.get(name) {
            Some(value) => Some(value.clone().unwrap_or_default()),
            None => self.environment.get(name).cloned().or_else(|| std::env::var(name).ok()),
        }
    }

    /// Reads a section. A condition is evaluated and a macro is stored; any other section becomes a
    /// directive with inner directives.
    fn section(
        &mut self,
        input: &mut Input<'_>,
        (name, rest, at, undefined): (String, &str, Location, Option<String>),
        into: &mut Vec<Directive>,
        depth: usize,
    ) -> Read<()> {
        // `<IfModule ssl_module>` has arguments, `<RequireAll>` has none.
        let (name, rest) = match name.strip_suffix('>') {
            Some(name) => (name.to_owned(), format!(">{rest}")),
            None => (name, rest.to_owned()),
        };
        let key = name.to_ascii_lowercase();
        // httpd ignores text after the bracket.
        let end = match key == "<hpkppolicy" {
            true => rest.trim_end().strip_suffix('>').map(str::len),
            false => rest.rfind('>'),
        };
        let arguments = match end {
            Some(end) => rest[..end].trim_end(),
            // The module's handler reads no name without a bracket.
            None if key == "<hpkppolicy" => "",
            None => {
                let name = Excerpt::new(&name);
                return Err(invalid(&at, format!("{name}> directive missing closing '>'")));
            }
        };
        if key == "<macro" {
            let lines = self.raw(input, &name, &at)?;
            return self.define_macro(arguments, lines, at);
        }
        if let Some(is_met) = self.condition(&key, arguments, &at)? {
            if is_met {
                return self.until_end(input, &name, &at, into, depth);
            }
            return passed_over(input, &name, at);
        }
        let mut inner = Vec::new();
        self.until_end(input, &name, &at, &mut inner, depth)?;
        let arguments = arguments.to_owned();
        into.push(Directive { name, arguments, at, inner, undefined });
        Ok(())
    }

    /// Reads the directives up to the end of a section.
    fn until_end(
        &mut self,
        input: &mut Input<'_>,
        name: &str,
        at: &Location,
        into: &mut Vec<Directive>,
        depth: usize,
    ) -> Read<()> {
        loop {
            let Some(line) = input.lines.get(input.next) else {
                // httpd does not report a section of a fulfilled condition that is not closed at the end of
                // the file.
                let is_condition = name.len() > 3 && name.to_ascii_lowercase().starts_with("<if");
                return if is_condition { Ok(()) } else { Err(not_closed(name, at)) };
            };
            if let Some(ended) = end_of(&line.text) {
                if !ended.eq_ignore_ascii_case(&name[1..]) {
                    let text =
                        format!("Expected </{}> but saw </{}>", &name[1..], Excerpt::new(&ended));
                    return Err(invalid(&line.at, text));
                }
                input.next += 1;
                return Ok(());
            }
            self.one(input, into, depth + 1)?;
        }
    }

    /// The lines up to the end of a section, without reading them.
    fn raw(&mut self, input: &mut Input<'_>, name: &str, at: &Location) -> Read<Vec<Line>> {
        let mut lines = Vec::new();
        let mut depth = 0_usize;
        let begin = name.to_ascii_lowercase();
        while let Some(line) = input.lines.get(input.next) {
            input.next += 1;
            let (first, _) = first_word(&line.text);
            if end_of(&line.text).is_some_and(|ended| ended.eq_ignore_ascii_case(&name[1..])) {
                if depth == 0 {
                    return Ok(lines);
                }
                depth -= 1;
            } else if first.to_ascii_lowercase().trim_end_matches('>') == begin {
                depth += 1;
            }
            lines.push(line.clone());
        }
        Err(not_closed(name, at))
    }

    /// Whether a condition is fulfilled; `None` if the section is no condition.
    fn condition(&mut self, key: &str, arguments: &str, at: &Location) -> Read<Option<bool>> {
        let words = words(arguments);
        let first = words.first().map_or("", String::as_str);
        let (is_negated, name) = match first.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, first),
        };
        let is_met = match key {
            "<ifmodule" => self.has_module(&module(name)),
            "<ifdefine" => self.defines.contains_key(name),
            "<iffile" => self.files.exists(&full_path(&self.root, name)),
            "<ifdirective" => self.has_directive(name, at),
            "<ifsection" => self.has_directive(&format!("<{name}"), at),
            "<ifversion" => return self.version(&words, at).map(Some),
            _ => return Ok(None),
        };
        Ok(Some(is_met != is_negated))
    }

    /// Whether a loaded module defines a directive. A directive of no known module counts as not defined.
    fn has_directive(&mut self, name: &str, at: &Location) -> bool {
        if let Some(is_there) = has_directive(name, |module| self.has_module(module)) {
            return is_there;
        }
        let bare = name.trim_start_matches('<');
        // Not reported: a known directive where the condition asks for a section, or the reverse.
        if !is_known(bare) {
            let shown = Excerpt::new(bare);
            self.problems.unknown(at, format!("the directive \"{shown}\" of this condition"));
        }
        false
    }

    /// Whether httpd's version fulfils a condition.
    fn version(&mut self, words: &[String], at: &Location) -> Read<bool> {
        match version(words) {
            Version::Same(is_met) => Ok(is_met),
            Version::Late(is_met) => {
                let what = "the version of httpd, and takes it for a late 2.4 in this condition";
                self.problems.unknown(at, what.to_owned());
                Ok(is_met)
            }
            Version::Invalid(why) => Err(invalid(at, why)),
        }
    }

    fn load(&mut self, arguments: &str) {
        self.loads = true;
        let words = words(arguments);
        if let Some(name) = words.first() {
            self.modules.insert(module(name));
        }
        if let Some(file) = words.get(1) {
            let file = file.rsplit('/').next().unwrap_or(file);
            self.modules.insert(module(file.strip_suffix(".so").unwrap_or(file)));
        }
    }

    fn include(
        &mut self,
        arguments: &str,
        is_optional: bool,
        at: &Location,
        undefined: Option<&str>,
        into: &mut Vec<Directive>,
        depth: usize,
    ) -> Read<()> {
        let (path, _) = first_word(arguments);
        let mask = full_path(&self.root, &path);
        let shown = Excerpt::new(&mask).to_string();
        if let Some(name) = undefined {
            let text = format!("cannot include \"{shown}\": {}", undefined_variable(name));
            return Err(unreadable(at, text));
        }
        let paths = self.included(&mask, is_optional, at)?;
        for path in paths {
            if self.open.len() > MAX_INCLUDES {
                let text = format!(
                    "files include each other more than {MAX_INCLUDES} deep, the last of them \"{}\"",
                    Excerpt::new(&path)
                );
                return Err(invalid(at, text));
            }
            let text = match self.files.read(&path) {
                Ok(text) => text,
                Err(_) if is_optional && !self.files.exists(&path) => continue,
                Err(unread) => return Err(unread.finding(&path, at)),
            };
            self.open.push(path.clone());
            self.all_of(&lines(&path, &text), into, depth + 1)?;
            self.open.pop();
        }
        Ok(())
    }

    /// The files that `Include` names. A directory stands for all files below it.
    fn included(&mut self, mask: &str, is_optional: bool, at: &Location) -> Read<Vec<String>> {
        let shown = Excerpt::new(mask).to_string();
        let failed = |why: String| invalid(at, format!("cannot include \"{shown}\": {why}"));
        // The server may have permissions that the command lacks.
        let unknown = |why: String| unreadable(at, format!("cannot include \"{shown}\": {why}"));
        let mut found = match is_mask(mask) {
            false => vec![mask.to_owned()],
            true => {
                let found = self.files.matching(mask).map_err(&unknown)?;
                if found.is_empty() && !is_optional {
                    return Err(failed("no file matches this pattern".to_owned()));
                }
                found
            }
        };
        let mut files = Vec::new();
        found.reverse();
        while let Some(path) = found.pop() {
            if self.files.is_directory(&path) {
                let mut below = self.files.matching(&format!("{path}/*")).map_err(&unknown)?;
                below.reverse();
                found.extend(below);
            } else {
                files.push(path);
            }
            if files.len() + found.len() > super::super::files::MAX_FILES {
                return Err(failed("too many files".to_owned()));
            }
        }
        Ok(files)
    }

    fn define_macro(&mut self, arguments: &str, lines: Vec<Line>, at: Location) -> Read<()> {
        let mut words = words(arguments).into_iter();
        let Some(name) = words.next() else {
            return Err(invalid(&at, "<Macro> without a name".to_owned()));
        };
        let name = name.to_ascii_lowercase();
        let parameters = words.collect();
        self.macros.insert(name.clone(), Macro { name, parameters, lines, at });
        Ok(())
    }

    fn use_macro(
        &mut self,
        arguments: &str,
        at: &Location,
        into: &mut Vec<Directive>,
        depth: usize,
    ) -> Read<()> {
        let mut words = words(arguments).into_iter();
        let name = words.next().unwrap_or_default().to_ascii_lowercase();
        let shown = Excerpt::new(&name).to_string();
        let Some(used) = self.macros.get(&name) else {
            return Err(invalid(at, format!("macro '{shown}' undefined")));
        };
        let values: Vec<String> = words.collect();
        if values.len() != used.parameters.len() {
            let text = format!(
                "macro '{shown}' has {} parameters and is used with {}",
                used.parameters.len(),
                values.len()
            );
            return Err(invalid(at, text));
        }
        // Longer parameter names are replaced first, because `$ab` also begins with `$a`.
        let mut pairs: Vec<(&String, &String)> = used.parameters.iter().zip(&values).collect();
        pairs.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let file: std::sync::Arc<str> = format!(
            "macro '{}' (defined on line {} of \"{}\") used on line {} of \"{}\"",
            used.name, used.at.line, used.at.file, at.line, at.file
        )
        .into();
        let substituted = used.lines.iter().zip(1..).map(|(line, number)| {
            let mut text = line.text.clone();
            for (name, value) in &pairs {
                text = text.replace(name.as_str(), value);
            }
            Line { text, at: Location { file: file.clone(), line: number } }
        });
        let lines: Vec<Line> = substituted.collect();
        self.all_of(&lines, into, depth + 1)
    }
}

/// Skips a section whose condition is not fulfilled. httpd still checks that the sections in it are closed
/// in the right order.
fn passed_over(input: &mut Input<'_>, name: &str, at: Location) -> Read<()> {
    let mut open = vec![(name.to_owned(), at)];
    while let Some((last, begin)) = open.last() {
        let Some(line) = input.lines.get(input.next) else { return Err(not_closed(last, begin)) };
        input.next += 1;
        let (first, _) = first_word(&line.text);
        if let Some(ended) = end_of(&line.text) {
            if !ended.eq_ignore_ascii_case(&last[1..]) {
                let text =
                    format!("Expected </{}> but saw </{}>", &last[1..], Excerpt::new(&ended));
                return Err(invalid(&line.at, text));
            }
            open.pop();
        } else if first.starts_with('<') {
            open.push((first.trim_end_matches('>').to_owned(), line.at.clone()));
        }
    }
    Ok(())
}

/// The name of the section that a line closes.
fn end_of(line: &str) -> Option<String> {
    let name = line.trim_start().strip_prefix("</")?;
    Some(name.trim_end().trim_end_matches('>').trim_end().to_owned())
}

fn not_closed(name: &str, at: &Location) -> Box<Finding> {
    invalid(at, format!("{}> was not closed.", Excerpt::new(name)))
}

/// The finding about a variable without a value.
pub(super) fn undefined_variable(name: &str) -> String {
    format!(
        "the variable {} has no value here; give it as httpd has it: --define {}=VALUE",
        Excerpt::new(&format!("${{{name}}}")),
        Excerpt::new(name)
    )
}

/// The name of a module, from its file name or its identifier: `mod_ssl.c`, `ssl_module`.
fn module(name: &str) -> String {
    let name = name.strip_suffix(".c").unwrap_or(name);
    let name = name.strip_prefix("mod_").unwrap_or(name);
    name.strip_suffix("_module").unwrap_or(name).to_owned()
}
