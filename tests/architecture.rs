//! Files import one another without circles, and folders import downward only.
//!
//! Read from the `use` declarations of `src/` and of `src/bin/elbo/`, tests aside. A name that a `mod.rs`
//! re-exports counts as an import of the file that defines it. Paths in expressions are not read: a
//! `mod.rs` may call its own children by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Folders and files of the library, from the top floor to the ground floor.
const LIBRARY: &[&str] = &[
    "lib",
    "train",
    "distributed",
    "vae",
    "loss",
    "optim",
    "layers",
    "gemm",
    "augmentation",
    "dataset",
    "random",
    "math",
    "compute",
    "memory",
    "simd",
    "error",
];

/// Likewise of the tool.
const TOOL: &[&str] = &[
    "main",
    "cli",
    "commands",
    "options",
    "output",
    "onnx",
    "figure",
    "model",
    "data",
    "data/formats",
    "ranks",
    "failure",
    "text",
];

#[test]
fn library_has_no_circle_and_imports_downward() {
    check(&Sources::read("src", Some("bin")), LIBRARY);
}

#[test]
fn tool_has_no_circle_and_imports_downward() {
    let sources = Sources::read("src/bin/elbo", None);
    check(&sources, TOOL);
    // A command uses what lies below, and no other command.
    let command =
        |module: &str| Some(module.strip_prefix("commands/")?.split('/').next()?.to_owned());
    for (from, to) in sources.imports() {
        if let (Some(one), Some(other)) = (command(&from), command(&to)) {
            assert_eq!(one, other, "{from} imports {to}");
        }
    }
}

fn check(sources: &Sources, floors: &[&str]) {
    let imports = sources.imports();
    assert!(imports.len() > 50, "{} imports: the declarations were not found", imports.len());
    assert_eq!(circle(&imports), None);
    assert_eq!(upward(&imports, floors), Vec::<String>::new());
}

/// The text of each module, by its path (`data/formats/idx`; the root is `main` or `lib`), without tests.
struct Sources(BTreeMap<String, String>);

/// A path of a `use` declaration, and whether it is re-exported.
struct Import {
    path: Vec<String>,
    exported: bool,
}

impl Sources {
    fn read(root: &str, skipped: Option<&str>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        let mut files = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    folders.extend((Some(&name[..]) != skipped).then_some(path));
                } else if let Some(module) = name.strip_suffix(".rs") {
                    let module = module.strip_suffix("/mod").unwrap_or(module);
                    files.insert(module.to_owned(), fs::read_to_string(path).unwrap());
                }
            }
        }
        Self::of(files)
    }

    /// Leaves out test modules, whether in the text or in files of their own.
    fn of(files: BTreeMap<String, String>) -> Self {
        let mut tests = BTreeSet::new();
        let mut sources = BTreeMap::new();
        for (module, text) in files {
            let (text, of_tests) = without_tests(&text);
            tests.extend(of_tests.into_iter().map(|name| child(&module, &name)));
            sources.insert(module, text);
        }
        let is_test = |module: &String| {
            tests.iter().any(|test| module == test || module.starts_with(&format!("{test}/")))
        };
        sources.retain(|module, _| !is_test(module));
        Self(sources)
    }

    /// All pairs of a module and one that it imports.
    fn imports(&self) -> BTreeSet<(String, String)> {
        let mut pairs = BTreeSet::new();
        for (module, text) in &self.0 {
            for import in declarations(text) {
                // A re-export of a child is a name for it, and no use of it.
                let Some(found) = self.resolve(module, &import.path, 0) else { continue };
                let facade = import.exported && found.starts_with(&child(module, ""));
                if found != *module && !facade {
                    pairs.insert((module.clone(), found));
                }
            }
        }
        pairs
    }

    /// The module that defines what a path means in `module`; `None` if that is another crate's.
    fn resolve(&self, module: &str, path: &[String], depth: usize) -> Option<String> {
        let root = if self.0.contains_key("main") { "main" } else { "lib" };
        let parent = |module: &str| module.rsplit_once('/').map_or(root, |(up, _)| up).to_owned();
        let (mut at, mut rest) = (module.to_owned(), path);
        let mut local = false;
        while let [first, more @ ..] = rest {
            at = match &first[..] {
                "crate" => root.to_owned(),
                "super" => parent(&at),
                "self" => at,
                name if self.0.contains_key(&child(&at, name)) => child(&at, name),
                _ => break,
            };
            (local, rest) = (true, more);
        }
        let [item, ..] = rest else { return local.then_some(at) };
        if !local || depth > 8 {
            return None;
        }
        let exports = declarations(self.0.get(&at)?);
        let export = exports.iter().find(|found| found.exported && found.path.last() == Some(item));
        let defined = export.and_then(|found| self.resolve(&at, &found.path, depth + 1));
        Some(defined.unwrap_or(at))
    }
}

fn child(module: &str, name: &str) -> String {
    match module {
        "main" | "lib" => name.to_owned(),
        _ => format!("{module}/{name}"),
    }
}

/// The text without items under `#[cfg(test)]`, and the names of the test modules in files of their own.
fn without_tests(text: &str) -> (String, Vec<String>) {
    let (mut kept, mut names) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let attribute = line.trim();
        if !(attribute.starts_with("#[cfg(test)]") || attribute.starts_with("#[cfg(all(test")) {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        for line in lines.by_ref() {
            if let Some(name) = line.trim().strip_suffix(';').and_then(|l| l.split_once("mod ")) {
                names.push(name.1.to_owned());
            }
            let closes = line.trim_start().starts_with('}') && line.find('}') == Some(indent);
            if closes || (line.trim_end().ends_with(';') && line.find(|c| c != ' ') == Some(indent))
            {
                break;
            }
        }
    }
    (kept, names)
}

/// The paths of all `use` declarations, one for each name.
fn declarations(text: &str) -> Vec<Import> {
    let mut imports = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(at) = line.find("use ").filter(|&at| {
            let before = line[..at].trim();
            before.is_empty() || (before.starts_with("pub") && !before.contains(' '))
        }) else {
            continue;
        };
        let mut tree = line[at + 4..].to_owned();
        while !tree.contains(';') {
            let Some(next) = lines.next() else { break };
            tree.push_str(next);
        }
        let mut paths = Vec::new();
        expand(tree.trim_end_matches(';').trim(), &[], &mut paths);
        imports.extend(paths.into_iter().map(|path| Import { path, exported: at > 0 }));
    }
    imports
}

/// `a::{b, c::{self, d}}` as `a::b`, `a::c`, `a::c::d`.
fn expand(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let Some((prefix, group)) = tree.split_once('{') else {
        let tree = tree.split(" as ").next().unwrap_or(tree);
        let names =
            tree.split("::").map(str::trim).filter(|name| !["self", "*", ""].contains(name));
        let leading = tree.starts_with("self::").then(|| "self".to_owned());
        paths.push(before.iter().cloned().chain(leading).chain(names.map(str::to_owned)).collect());
        return;
    };
    let names = prefix.split("::").map(str::trim).filter(|name| !name.is_empty());
    let before: Vec<String> = before.iter().cloned().chain(names.map(str::to_owned)).collect();
    let group = group.trim().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (i, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = group[start..i].trim();
                if !part.is_empty() {
                    expand(part, &before, paths);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// A circle of modules, if there is one.
fn circle(imports: &BTreeSet<(String, String)>) -> Option<Vec<&str>> {
    fn visit<'a>(
        module: &'a str,
        imports: &'a BTreeSet<(String, String)>,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = path.iter().position(|&seen| seen == module) {
            return Some(path[start..].to_vec());
        }
        if done.contains(module) {
            return None;
        }
        path.push(module);
        let mut next = imports.iter().filter(|(from, _)| from == module);
        let found = next.find_map(|(_, to)| visit(to, imports, path, done));
        path.pop();
        done.insert(module);
        found
    }
    let mut done = BTreeSet::new();
    imports.iter().find_map(|(from, _)| visit(from, imports, &mut Vec::new(), &mut done))
}

/// Imports from a lower floor to a higher one, and modules on no floor.
fn upward(imports: &BTreeSet<(String, String)>, floors: &[&str]) -> Vec<String> {
    let floor = |module: &str| {
        let on = |floor: &&str| module == *floor || module.starts_with(&format!("{floor}/"));
        let longest = floors.iter().copied().filter(on).max_by_key(|floor| floor.len());
        longest.and_then(|found| floors.iter().position(|floor| *floor == found))
    };
    let wrong = |(from, to): &(String, String)| match (floor(from), floor(to)) {
        (Some(lower), Some(upper)) if lower > upper => {
            Some(format!("{from} imports {to}, above it"))
        }
        (None, _) => Some(format!("{from} is on no floor")),
        (_, None) => Some(format!("{to} is on no floor")),
        _ => None,
    };
    imports.iter().filter_map(wrong).collect()
}

#[test]
fn reports_circles_and_upward_imports() {
    let sources = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Sources::of(files.collect()).imports()
    };
    let root = ("main", "mod a;\nmod b;\n");
    let fine = sources(&[
        root,
        ("a", "mod c;\npub use c::C;\nuse crate::b::{self, B};\nuse std::fs;\n"),
        ("a/c", "use crate::b::B;\n#[cfg(test)]\nmod tests {\n    use super::super::A;\n}\n"),
        ("b", "use std::io;\n"),
    ]);
    let pairs: Vec<_> = fine.iter().map(|(from, to)| format!("{from} {to}")).collect();
    assert_eq!(pairs, ["a b", "a/c b"]);
    assert_eq!((circle(&fine), upward(&fine, &["main", "a", "b"])), (None, Vec::new()));

    // By way of a re-export, and of `super`.
    let circular = sources(&[
        root,
        ("a", "mod c;\nmod d;\npub use c::C;\n"),
        ("a/c", "use super::d::D;\n"),
        ("a/d", "use crate::{\n    a::C,\n    b::B as Other,\n};\n"),
        ("b", ""),
    ]);
    assert_eq!(circle(&circular), Some(vec!["a/c", "a/d"]));

    let raised = sources(&[root, ("a", ""), ("b", "use super::a::A;\n")]);
    assert_eq!(upward(&raised, &["main", "a", "b"]), ["b imports a, above it"]);
    assert_eq!(upward(&raised, &["main", "b"]), ["a is on no floor"]);
}
