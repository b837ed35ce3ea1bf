//! The style rules of this repository as tests: which imports are allowed, how large files and functions may be, what
//! must not be left in the code, and that the guide shows the examples that are tested.
//!
//! The rules see tokens without comments and literals, and rely on rustfmt's format. They catch mistakes, not
//! deliberate tricks. The tables come first: a new file needs a row there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of `src/relay`, files and folders. Each may import only the layers before it, and itself. `mod` means
/// `mod.rs`, which may import all of them.
const RELAY_ORDER: &[&str] = &[
    "ids",
    "time",
    "readiness",
    "effect",
    "address",
    "origin",
    "limits",
    "settings",
    "tables",
    "access",
    "wire",
    "http",
    "memory",
    "transit",
    "client",
    "sessions",
    "counts",
    "hook",
    "core",
    "mod",
    "tests",
];

/// The files of `src/relay/core`. Each may import and call only those before it, so that the parts of `Relay` have no
/// cycles. `self.method(…)` counts as a call of the file that has the method.
const CORE_ORDER: &[&str] = &[
    "slots",
    "catch_up",
    "drain_plan",
    "relay",
    "schedule",
    "record",
    "answers",
    "admission",
    "delivery",
    "parting",
    "pressure",
    "joining",
    "routing",
    "drain",
    "intake",
    "flushing",
    "timeouts",
    "invariants",
    "turn",
    "inputs",
    "report",
    "mod",
    "tests",
];

/// The files of `src/config`, with the same rule. They may also import what their row of `OUTER_FILES` allows.
const CONFIG_ORDER: &[&str] = &[
    "bounds",
    "naming",
    "error",
    "format",
    "units",
    "socket_address",
    "listen_address",
    "settings",
    "table",
    "options",
    "validate",
    "values",
    "health_url",
    "habits",
    "help",
    "parse",
    "mod",
    "tests",
];

/// The folder of the core's files.
const CORE: &str = "src/relay/core/";

/// Folders whose files have an order: the folder, its module, and the name of the table above.
const ORDERED: &[(&str, &str, &[&str], &str)] = &[
    ("src/relay/", "relay", RELAY_ORDER, "RELAY_ORDER"),
    ("src/config/", "config", CONFIG_ORDER, "CONFIG_ORDER"),
];

/// What the files outside `src/relay` may import of the crate. The first row that fits a file counts. A row that ends
/// in `/` is for a folder.
const OUTER_FILES: &[(&str, &[&str])] = &[
    ("src/lib.rs", &["crate"]),
    ("src/main.rs", &["crate"]),
    ("src/logging.rs", &["crate::LogFormat", "crate::program"]),
    ("src/clock.rs", &["crate::relay::Now", "crate::relay::Tick"]),
    ("src/entropy.rs", &[]),
    ("src/guide/", &[]),
    ("src/admin/", &["crate::relay", "crate::admin"]),
    (
        "src/config/",
        &[
            "crate::relay::access::secret",
            "crate::relay::address",
            "crate::relay::limits",
            "crate::relay::time",
            "crate::relay::Origin",
            "crate::relay::Settings",
            "crate::relay::Tick",
        ],
    ),
    (
        "src/net/token.rs",
        &["crate::relay::ConnectionId", "crate::relay::limits", "crate::config", "crate::admin"],
    ),
    (
        "src/net/",
        &["crate::relay", "crate::admin", "crate::net", "crate::clock", "crate::entropy", "crate::config"],
    ),
];

/// Modules that give access to the outside world, and the files that may use them.
const DOORS: &[(&str, &[&str])] = &[
    ("Instant", &["src/clock.rs"]),
    ("SystemTime", &["src/clock.rs"]),
    ("getrandom", &["src/entropy.rs"]),
    ("mio", &["src/net/"]),
    ("rustix", &["src/net/platform/unix/"]),
    ("sd_listen_fds", &["src/net/platform/unix/inherited.rs"]),
    ("signal_hook", &["src/net/"]),
    ("signal_hook_mio", &["src/net/platform/unix/"]),
    ("socket2", &["src/net/"]),
    ("TcpListener", &["src/net/"]),
    ("TcpStream", &["src/net/"]),
    ("tokio", &["src/net/platform/windows/"]),
    ("UdpSocket", &["src/net/"]),
    ("UnixListener", &["src/net/platform/unix/"]),
    ("UnixStream", &["src/net/platform/unix/"]),
    ("std::os", &["src/net/platform/"]),
    ("std::thread", &[]),
];

/// The one folder whose files may depend on the operating system.
const PLATFORM: &str = "src/net/platform/";

/// The name of the crate, under which the binary imports the library.
const CRATE: &str = "apptuner_relay";

const COLUMNS_MAX: usize = 120;
/// Lines of a file, without its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function, from its signature to its last brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines of the README: longer texts belong in the guide.
const README_LINES_MAX: usize = 200;

/// Phrases that readers have to read twice. The source, the guide and the README do without them.
const OLD_PHRASES: &[&str] = &["whoever", "whom", "whomever", "lest", "be it", "for want of", "puts down"];

/// Words that mark unfinished work, in code and comments.
const MARKERS: &[&str] = &["FIXME", "XXX"];
/// Macros that mark unfinished work.
const UNFINISHED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

#[test]
fn files_import_only_what_their_row_allows() {
    hold_everywhere(imports_beyond_the_row);
}

#[test]
fn parts_of_the_relay_import_and_call_only_those_before_them() {
    assert_none(&core_runs_back(&sources()));
}

#[test]
fn rule_for_the_core_finds_exactly_the_calls_and_imports_that_go_back() {
    let record = "use super::relay::Relay;\nimpl Relay { fn note(&self) { self.own(); } fn own(&self) {} }";
    let parting = "impl Relay { fn leave(&self) { self.note(); self.slots.leave(); } }";
    for (answers, expected) in [
        ("impl Relay { fn tell(&self) { self.note(); slot.leave(); leave(); } }", 0),
        ("impl Relay { fn tell(&self) { self.leave(); } }", 1),
        ("use super::parting::X;", 1),
        ("use crate::relay::core::parting::X;\nuse super::record::Y;", 1),
        ("#[cfg(test)]\nmod tests { fn f() { self.leave(); } }", 0),
    ] {
        let files = [("record", record), ("answers", answers), ("parting", parting)];
        let sources = files.map(|(name, text)| Source::new(&format!("{CORE}{name}.rs"), text));
        let breaches = core_runs_back(&sources);
        assert_eq!(breaches.len(), expected, "{answers}: {breaches:?}");
    }
    let unknown = [Source::new("src/relay/core/other.rs", "")];
    assert_eq!(core_runs_back(&unknown).len(), 1, "a new file needs its place");
}

#[test]
fn clocks_entropy_and_sockets_are_used_only_in_allowed_files() {
    hold_everywhere(doors_opened_elsewhere);
}

#[test]
fn only_one_folder_depends_on_the_system() {
    hold_everywhere(systems_asked_for_elsewhere);
}

#[test]
fn lines_fit_into_120_columns() {
    hold_everywhere(wide_lines);
}

#[test]
fn files_stay_under_500_lines_and_functions_under_70() {
    hold_everywhere(long_files);
    hold_everywhere(long_functions);
}

#[test]
fn modules_with_parts_are_folders_with_mod_rs() {
    let sources = sources();
    let has_parts = |path: &str| {
        let folder = path.replace(".rs", "/");
        sources.iter().any(|source| source.path.starts_with(&folder))
    };
    let breaches = sources.iter().filter(|source| has_parts(&source.path));
    let place = |source: &Source| format!("{}:1: has parts; move it to mod.rs in their folder", source.path);
    assert_none(&breaches.map(place).collect::<Vec<_>>());
}

#[test]
fn source_guide_and_readme_have_no_old_phrases() {
    let texts = texts();
    let breaches = texts.iter().flat_map(|(path, text)| {
        let place = move |(line, phrase)| format!("{path}:{line}: \"{phrase}\"; use plain words");
        old_phrases(text).into_iter().map(place)
    });
    assert_none(&breaches.collect::<Vec<_>>());
    assert_eq!(old_phrases("a\nLest we, for want\nof whom? May be: it"), [(2, "lest"), (3, "whom")]);
}

#[test]
fn readme_has_at_most_200_lines() {
    let texts = texts();
    let (_, readme) = texts.iter().find(|(path, _)| path == "README.md").expect("there is a README");
    assert!(readme.lines().count() <= README_LINES_MAX, "move a part of it to the guide");
}

/// Readers copy these from the guide, and only the files are tested.
#[test]
fn guide_shows_the_examples_as_they_are_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("file is UTF-8");
    let chapter = read("src/guide/clients.md");
    for path in ["tests/clients/recipe.js", "tests/clients/repeats.mjs"] {
        let shown = chapter.matches(&format!("\n```javascript\n{}```\n", read(path))).count();
        assert_eq!(shown, 1, "src/guide/clients.md must show {path} once, unchanged");
    }
}

#[test]
fn no_unfinished_work_is_left() {
    hold_everywhere(unfinished_work);
}

#[test]
fn no_unwrap_outside_tests() {
    hold_everywhere(unwraps);
}

#[test]
fn every_file_is_a_module_of_the_crate() {
    assert_none(&undeclared_files(&sources()));
}

#[test]
fn rule_for_systems_finds_exactly_what_it_forbids() {
    for (path, text, expected) in [
        ("src/main.rs", "#[cfg(unix)]\nuse a;\n#[cfg(not(windows))]\nuse b;", &[1, 3][..]),
        ("src/net/mod.rs", "if cfg!(target_os = \"linux\") {}", &[1]),
        ("src/net/platform/mod.rs", "#[cfg(unix)]\nuse unix as system;", &[]),
        ("src/net/stream.rs", "#[cfg(debug_assertions)]\nfn f(a: &[u8]) { a.windows(2); }", &[]),
    ] {
        let found = systems_asked_for_elsewhere(&Source::new(path, text));
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, expected, "{path}: {text}");
    }
}

#[test]
fn configuration_files_may_import_earlier_ones_and_what_their_row_allows() {
    for (path, text, expected) in [
        (
            "src/config/options.rs",
            "use super::table::Row;\nuse super::validate;\nuse super::Config;",
            &[2, 3][..],
        ),
        (
            "src/config/table.rs",
            "use super::options::TABLE;\nuse crate::net;\nuse crate::relay::Origin;",
            &[1, 2],
        ),
        ("src/config/mod.rs", "use crate::config::parse;\nuse crate::relay::limits::X;", &[]),
        ("src/config/util.rs", "", &[1]),
    ] {
        let found = imports_beyond_the_row(&Source::new(path, text));
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, expected, "{path}: {text}");
    }
}

#[test]
fn rule_for_imports_finds_exactly_what_it_forbids() {
    let wheel = "src/relay/tables/wheel.rs";
    assert_finds(&[
        (imports_beyond_the_row, "src/relay/tables/wheel.rs", "use crate::relay::time::Tick;", &[]),
        (
            imports_beyond_the_row,
            "src/relay/tables.rs",
            "use super::{ids::Id,\n sessions,\n limits::*};",
            &[2],
        ),
        (imports_beyond_the_row, wheel, "\nfn f() { crate::relay::wire::parse(); }", &[2]),
        (imports_beyond_the_row, wheel, "use self::inner::Slot; use crate::relay::tables::hash::X;", &[]),
        (imports_beyond_the_row, "src/relay/tables.rs", "use crate::relay::Relay;\nuse super::*;", &[1, 2]),
        (imports_beyond_the_row, wheel, "use super::Wheel;\nuse super::super::wire::X;", &[2]),
        (imports_beyond_the_row, wheel, "// crate::net\n/* crate::net */ \"crate::net\"", &[]),
        (imports_beyond_the_row, wheel, "#[cfg(test)]\nmod tests { use crate::net::X; }", &[]),
        (
            imports_beyond_the_row,
            "src/relay/mod.rs",
            "use crate::relay::wire;\nuse crate::{config, clock};",
            &[2, 2],
        ),
        (imports_beyond_the_row, "src/relay/counts.rs", "use super::{limits::X, Relay};", &[1]),
        (imports_beyond_the_row, "src/relay/util.rs", "", &[1]),
        (imports_beyond_the_row, "src/relay.rs", "", &[1]),
        (
            imports_beyond_the_row,
            "src/net/event_loop.rs",
            "use crate::relay::Relay;\nuse crate::tests::X;",
            &[2],
        ),
        (imports_beyond_the_row, "src/net/token.rs", "use crate::relay::{limits::X, Tick};", &[1]),
        (imports_beyond_the_row, "src/main.rs", "use apptuner_relay::{config, net};", &[]),
        (imports_beyond_the_row, "src/config.rs", "use apptuner_relay::net;", &[1]),
    ]);
}

#[test]
fn rules_find_exactly_what_they_forbid() {
    let lines = |count: usize| "    { step(); }\n".repeat(count);
    let function =
        |count: usize| format!("impl Turn {{\nfn run(bytes: [u8; 4]) {{\n{}}}\n}}\n", lines(count - 2));
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(600));
    assert_finds(&[
        (doors_opened_elsewhere, "src/relay/time.rs", "use std::time::{Duration, Instant};", &[1]),
        (
            doors_opened_elsewhere,
            "src/relay/time.rs",
            "use std::time;\nlet t = time::SystemTime::now();",
            &[2],
        ),
        (doors_opened_elsewhere, "src/clock.rs", "use std::time::{Instant, SystemTime};", &[]),
        (doors_opened_elsewhere, "src/clock.rs", "getrandom::u64();", &[1]),
        (doors_opened_elsewhere, "src/entropy.rs", "getrandom::u64();", &[]),
        (doors_opened_elsewhere, "src/net/token.rs", "use mio::Token; use socket2::Socket;", &[]),
        (
            doors_opened_elsewhere,
            "src/main.rs",
            "use ::mio::Poll;\nuse socket2;\nuse signal_hook_mio::v1_0;",
            &[1, 2, 3],
        ),
        (doors_opened_elsewhere, "src/relay/wire/frame.rs", "use std::net::{IpAddr, TcpStream};", &[1]),
        (
            doors_opened_elsewhere,
            "src/relay/wire/frame.rs",
            "fn f(l: TcpListener,\n u: UdpSocket) {}",
            &[1, 2],
        ),
        (doors_opened_elsewhere, "src/net/mod.rs", "use std::{\nnet::TcpListener, thread};", &[2]),
        (doors_opened_elsewhere, "src/net/mod.rs", "std::thread::spawn::<_, ()>(run);", &[1]),
        (
            systems_asked_for_elsewhere,
            "src/main.rs",
            "#[cfg(unix)]\nuse a;\n#[cfg(not(windows))]\nuse b;",
            &[1, 3],
        ),
        (doors_opened_elsewhere, "src/net/files.rs", "use std::os::unix::fs::OpenOptionsExt;", &[1]),
        (wide_lines, "src/main.rs", &format!("{}\n{}", "ä".repeat(120), "x".repeat(121)), &[2]),
        (long_files, "src/main.rs", &format!("{}{tests}", lines(500)), &[]),
        (long_files, "src/main.rs", &format!("{tests}{}", lines(501)), &[501]),
        (long_files, "src/relay/tables/tests.rs", &lines(501), &[]),
        (long_functions, "src/main.rs", &function(70), &[]),
        (long_functions, "src/main.rs", &format!("trait T {{ fn f(); }}\n{}", function(71)), &[3]),
        (long_functions, "src/main.rs", &format!("#[cfg(test)]\n{}", function(71)), &[]),
        (unfinished_work, "src/main.rs", "// FIXME: later\n/* XXX */\n\"XXXL\"\n// todo!()", &[1, 2]),
        (unfinished_work, "src/main.rs", "todo!()\ndbg!(1)\nunimplemented!()\nlet todo = 1;", &[1, 2, 3]),
        (unwraps, "src/main.rs", "a\n.unwrap()\n.unwrap_or(1)\n#[cfg(test)]\nfn f() { b.unwrap() }", &[2]),
        (unwraps, "src/main.rs", "\"\\\".unwrap()\"; '\\\\';\nx.unwrap()", &[2]),
        (unwraps, "src/main.rs", "'\"'; b'\\''; r#\"\"\"#; x::<'a>.unwrap()", &[1]),
    ]);
    let declared = [("src/lib.rs", "pub mod relay;"), ("src/relay/mod.rs", "pub mod ids;\n// mod time;")];
    let files = declared.into_iter().chain([("src/relay/ids.rs", ""), ("src/relay/time.rs", "")]);
    let sources: Vec<Source> = files.map(|(path, text)| Source::new(path, text)).collect();
    assert_eq!(undeclared_files(&sources), ["src/relay/time.rs:1: no `mod` declares this file"]);
}

/// A rule, the path and text of a file, and the lines where the rule must find something.
type Case<'a> = (Rule, &'a str, &'a str, &'a [usize]);

fn assert_finds(cases: &[Case<'_>]) {
    for (rule, path, text, expected) in cases {
        let breaches = rule(&Source::new(path, text));
        assert_eq!(
            breaches.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            *expected,
            "{path}: {text}: {breaches:?}"
        );
    }
}

/// A line, counted from 1, and the rule that it breaks.
type Breach = (usize, String);
type Rule = fn(&Source) -> Vec<Breach>;

fn hold_everywhere(rule: Rule) {
    let sources = sources();
    assert!(!sources.is_empty(), "src holds no Rust file: the rules would hold for nothing");
    let breaches = sources.iter().flat_map(|source| {
        let place = move |(line, rule)| format!("{}:{line}: {rule}", source.path);
        rule(source).into_iter().map(place)
    });
    assert_none(&breaches.collect::<Vec<_>>());
}

fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

fn imports_beyond_the_row(source: &Source) -> Vec<Breach> {
    let own_module = source.module_path();
    let Some((allowed, rule)) = row_of(&source.path) else {
        return vec![(1, "the file has no row in tests/house.rs; give it one".to_owned())];
    };
    let beyond = |path: &ImportPath<'_>| {
        let target = path.resolve(&own_module)?;
        let is_allowed =
            allowed.iter().any(|allowed| is_within(&target, allowed)) || is_within(&target, &own_module);
        (!is_allowed).then(|| (path.line, format!("imports {}, but {rule}", target.join("::"))))
    };
    import_paths(&source.code).iter().filter_map(beyond).collect()
}

/// The paths that the row of the file at `path` allows, and the rule as a text. `None` if it has no row.
fn row_of(path: &str) -> Option<(Vec<Vec<&str>>, String)> {
    let split = |path: &'static str| path.split("::").collect();
    let outer = OUTER_FILES.iter().find(|(row, _)| fits(path, row)).map(|(_, allowed)| *allowed);
    let Some((folder, parent, order, table)) = ORDERED.iter().find(|(folder, ..)| fits(path, folder)) else {
        let allowed = outer?;
        return Some((allowed.iter().copied().map(split).collect(), format!("may import only {allowed:?}")));
    };
    let name = path.strip_prefix(folder)?.split(['/', '.']).next()?;
    let at = order.iter().position(|module| *module == name)?;
    let before = order.iter().take(at + 1).map(|module| match *module {
        "mod" => vec!["crate", parent],
        module => vec!["crate", parent, module],
    });
    let allowed = before.chain(outer.unwrap_or_default().iter().copied().map(split)).collect();
    Some((allowed, format!("{parent}/{name} may import only what comes before it in {table}")))
}

/// Imports and calls in the core that lead to a later file.
fn core_runs_back(sources: &[Source]) -> Vec<String> {
    let place_of = |name: &str| CORE_ORDER.iter().position(|file| *file == name);
    let in_core = |source: &Source| {
        let rest = source.path.strip_prefix(CORE)?;
        Some(rest.split(['/', '.']).next()?.to_owned())
    };
    let mut breaches = Vec::new();
    let mut methods: BTreeMap<&str, usize> = BTreeMap::new();
    let mut files = Vec::new();
    for source in sources {
        let Some(name) = in_core(source) else { continue };
        let Some(place) = place_of(&name) else {
            breaches.push(format!("{}:1: the file has no place in CORE_ORDER; give it one", source.path));
            continue;
        };
        files.push((source, place));
        for (_, name) in pairs(&source.code).filter(|(keyword, _)| keyword.text == "fn") {
            methods.insert(&name.text, place);
        }
    }
    for (source, place) in files {
        let calls = source.code.windows(4).filter_map(|tokens| match tokens {
            [this, dot, name, open] if this.text == "self" && dot.text == "." && open.text == "(" => {
                Some((name.line, name.text.clone(), *methods.get(name.text.as_str())?))
            }
            _ => None,
        });
        let own_module = source.module_path();
        let imports = import_paths(&source.code).into_iter().filter_map(|path| {
            let target = path.resolve(&own_module)?;
            let file = target.strip_prefix(&["crate", "relay", "core"].map(str::to_owned)[..])?.first()?;
            Some((path.line, file.clone(), place_of(file)?))
        });
        let back = calls.chain(imports).filter(|(_, _, target)| *target > place);
        breaches.extend(back.map(|(line, name, target)| {
            let file = CORE_ORDER.get(target).copied().unwrap_or_default();
            format!("{}:{line}: `{name}` is in {file}, which comes later in CORE_ORDER", source.path)
        }));
    }
    breaches
}

fn doors_opened_elsewhere(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for path in import_paths(&source.code) {
        for (door, keepers) in DOORS {
            let door_segments: Vec<&str> = door.split("::").collect();
            let is_opened =
                path.segments.windows(door_segments.len()).any(|segments| segments == door_segments);
            if is_opened && !keepers.iter().any(|row| fits(&source.path, row)) {
                breaches.push((path.line, format!("opens {door}, allowed only in {keepers:?}")));
            }
        }
    }
    breaches
}

fn systems_asked_for_elsewhere(source: &Source) -> Vec<Breach> {
    if fits(&source.path, PLATFORM) {
        return Vec::new();
    }
    let is_asked = |at: usize, token: &Token| match token.text.as_str() {
        "target_os" | "target_family" | "target_vendor" => true,
        // These names have other meanings, too.
        "unix" | "windows" => {
            let before = source.code.get(at.saturating_sub(8)..at).unwrap_or_default();
            before.iter().any(|token| matches!(token.text.as_str(), "cfg" | "cfg_attr"))
        }
        _ => false,
    };
    let asked = source.code.iter().enumerate().filter(|(at, token)| is_asked(*at, token));
    asked.map(|(_, token)| (token.line, format!("asks for the system, allowed only in {PLATFORM}"))).collect()
}

fn wide_lines(source: &Source) -> Vec<Breach> {
    let widths = (1..).zip(source.text.lines().map(|line| line.chars().count()));
    let wide = widths.filter(|&(_, width)| width > COLUMNS_MAX);
    wide.map(|(line, width)| (line, format!("{width} columns, of {COLUMNS_MAX} allowed"))).collect()
}

fn long_files(source: &Source) -> Vec<Breach> {
    let lines = if source.is_test() { 0 } else { source.text.lines().count() - source.test_lines };
    let is_long = lines > FILE_LINES_MAX;
    let breach = (lines, format!("{lines} lines without tests, of {FILE_LINES_MAX} allowed"));
    is_long.then_some(breach).into_iter().collect()
}

fn long_functions(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (at, token) in source.code.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        // Without a name it is the type of a function pointer.
        let Some(name) = source.code.get(at + 1).filter(|name| name.is_word()) else { continue };
        let lines = line_of_end(&source.code, at) - token.line + 1;
        if lines > FUNCTION_LINES_MAX {
            let rule = format!("`{}` has {lines} lines, of {FUNCTION_LINES_MAX} allowed", name.text);
            breaches.push((token.line, rule));
        }
    }
    breaches
}

fn unfinished_work(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (line, text) in (1..).zip(source.text.lines()) {
        let mut words = text.split(|character: char| !is_word_character(character));
        if let Some(marker) = words.find(|word| MARKERS.contains(word)) {
            breaches.push((line, format!("{marker} marks unfinished work")));
        }
    }
    for (token, next) in pairs(&tokens(&source.text)) {
        if UNFINISHED_MACROS.contains(&token.text.as_str()) && next.text == "!" {
            breaches.push((token.line, format!("{}! marks unfinished work", token.text)));
        }
    }
    breaches
}

fn unwraps(source: &Source) -> Vec<Breach> {
    let calls = pairs(&source.code).filter(|(dot, name)| dot.text == "." && name.text == "unwrap");
    calls.map(|(_, name)| (name.line, "unwrap() outside tests".to_owned())).collect()
}

/// Files that no `mod` declares. The compiler never sees them.
fn undeclared_files(sources: &[Source]) -> Vec<String> {
    let mut declared = vec![vec!["crate".to_owned()]];
    for source in sources {
        for (_, name) in pairs(&tokens(&source.text)).filter(|(keyword, _)| keyword.text == "mod") {
            let mut module = source.module_path();
            module.push(name.text.clone());
            declared.push(module);
        }
    }
    let dead = sources.iter().filter(|source| !declared.contains(&source.module_path()));
    dead.map(|source| format!("{}:1: no `mod` declares this file", source.path)).collect()
}

/// Whether `row` is for the file at `path`: it is its path, or a folder that ends in `/`.
fn fits(path: &str, row: &str) -> bool {
    path == row || (row.ends_with('/') && path.starts_with(row))
}

/// Whether `target` is `module` or something in it.
fn is_within(target: &[String], module: &[impl AsRef<str>]) -> bool {
    target.len() >= module.len()
        && target.iter().zip(module).all(|(target, module)| target == module.as_ref())
}

/// A file of `src`.
struct Source {
    /// Relative to the root of the crate, with `/` between folders.
    path: String,
    text: String,
    /// Its tokens, without those of tests.
    code: Vec<Token>,
    /// The number of lines of tests.
    test_lines: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let mut source =
            Self { path: path.to_owned(), text: text.to_owned(), code: Vec::new(), test_lines: 0 };
        if !source.is_test() {
            (source.code, source.test_lines) = without_tests(&tokens(text));
        }
        source
    }

    /// Whether the whole file is `mod tests`, or a part of it.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The path of the file's module, beginning with `crate`.
    fn module_path(&self) -> Vec<String> {
        let names = self.path.trim_start_matches("src/").trim_end_matches(".rs").split('/');
        let names = names.filter(|name| !matches!(*name, "lib" | "main" | "mod"));
        std::iter::once("crate").chain(names).map(str::to_owned).collect()
    }
}

/// The lines, counted from 1, that have one of [`OLD_PHRASES`], and which.
fn old_phrases(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.to_lowercase();
        let is_phrase = |phrase: &&str| {
            text.match_indices(*phrase).any(|(at, _)| {
                let before = text.get(..at).and_then(|before| before.chars().next_back());
                let behind = text.get(at + phrase.len()..).and_then(|behind| behind.chars().next());
                !before.is_some_and(is_word_character) && !behind.is_some_and(is_word_character)
            })
        };
        found.extend(OLD_PHRASES.iter().copied().filter(is_phrase).map(|phrase| (line, phrase)));
    }
    found
}

/// The source, the guide and the README: the path and the text of each file.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapters = fs::read_dir(root.join("src/guide")).expect("there is a guide");
    let paths =
        chapters.map(|entry| entry.expect("entry can be read").path()).chain([root.join("README.md")]);
    let markdown = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("file is UTF-8");
        let path =
            path.strip_prefix(root).expect("it is below the root").to_string_lossy().replace('\\', "/");
        (path, text)
    };
    sources().into_iter().map(|source| (source.path, source.text)).chain(markdown.map(read)).collect()
}

/// All Rust files of `src`, sorted by path.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder can be read") {
            let path = entry.expect("entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("file is UTF-8");
                let path = path.strip_prefix(root).expect("src is below the root").to_string_lossy();
                sources.push(Source::new(&path.replace('\\', "/"), &text));
            }
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

/// A word, `::`, or any other character outside white space, comments and literals.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.chars().all(is_word_character)
    }
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden_length = hidden_length(rest);
        let is_hidden = hidden_length > 0;
        let (piece, after) = rest.split_at(if is_hidden { hidden_length } else { visible_length(rest) });
        if !is_hidden && !first.is_whitespace() {
            tokens.push(Token { line, text: piece.to_owned() });
        }
        line += piece.matches('\n').count();
        rest = after;
    }
    tokens
}

fn visible_length(rest: &str) -> usize {
    let word_end = rest.find(|character| !is_word_character(character)).unwrap_or(rest.len());
    match rest.chars().next() {
        _ if word_end > 0 => word_end,
        Some(':') if rest.starts_with("::") => 2,
        first => first.map_or(0, char::len_utf8),
    }
}

/// The length in bytes of the comment or literal at the start of `rest`, or 0 if there is none.
fn hidden_length(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let literal = rest.trim_start_matches(['b', 'c']);
    let prefix_length = rest.len() - literal.len();
    if prefix_length > 1 {
        return 0;
    }
    let raw = literal.strip_prefix('r').unwrap_or_default();
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let (length, end) = if raw.trim_start_matches('#').starts_with('"') {
        let fence = format!("\"{}", "#".repeat(hashes));
        let opening = 1 + fence.len();
        (literal.get(opening..).and_then(|body| body.find(&fence)).map(|body| opening + body), fence.len())
    } else if literal.starts_with('"') {
        (closing_quote(literal, '"'), 1)
    } else if literal.starts_with('\'') && !is_lifetime(literal) {
        (closing_quote(literal, '\''), 1)
    } else {
        return 0;
    };
    length.map_or(rest.len(), |length| prefix_length + length + end)
}

fn closing_quote(literal: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    let is_end = |&(_, character): &(usize, char)| {
        let is_end = character == quote && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    };
    literal.char_indices().skip(1).find(is_end).map(|(at, _)| at)
}

fn is_lifetime(quoted: &str) -> bool {
    let mut characters = quoted.chars().skip(1);
    characters.next() != Some('\\') && characters.next() != Some('\'')
}

/// The tokens outside `#[cfg(test)]` items, and the number of lines of those items.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, usize) {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut code = Vec::new();
    let mut test_lines = 0;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let attribute = tokens.iter().skip(at).take(ATTRIBUTE.len()).map(|token| token.text.as_str());
        if attribute.eq(ATTRIBUTE) {
            test_lines += line_of_end(tokens, at) - token.line + 1;
            at = item_end(tokens, at) + 1;
        } else {
            code.push(token.clone());
            at += 1;
        }
    }
    (code, test_lines)
}

/// The index of the last token of the item that begins at `at`: its `;` or its closing brace.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" if depth > 1 => depth -= 1,
            "}" => return index,
            ";" if depth == 0 => return index,
            _ => {}
        }
    }
    tokens.len()
}

fn line_of_end(tokens: &[Token], at: usize) -> usize {
    tokens.get(item_end(tokens, at)).or(tokens.last()).map_or(1, |end| end.line)
}

fn pairs(tokens: &[Token]) -> impl Iterator<Item = (&Token, &Token)> {
    tokens.iter().zip(tokens.iter().skip(1))
}

/// A path in the code, in a `use` or elsewhere. A `use` with braces gives several.
struct ImportPath<'a> {
    line: usize,
    segments: Vec<&'a str>,
}

impl ImportPath<'_> {
    /// The path from `crate` on, if it leads to a module of the crate. `own_module` is the module of the file.
    fn resolve(&self, own_module: &[String]) -> Option<Vec<String>> {
        let (first, rest) = self.segments.split_first().filter(|(_, rest)| !rest.is_empty())?;
        let supers = self.segments.iter().take_while(|segment| **segment == "super").count();
        let (base, rest) = match *first {
            "crate" | CRATE => (vec!["crate".to_owned()], rest),
            "self" => (own_module.to_vec(), rest),
            "super" => {
                let ancestor = own_module.iter().take(own_module.len().saturating_sub(supers)).cloned();
                (ancestor.collect(), rest.get(supers - 1..).unwrap_or_default())
            }
            _ => return None,
        };
        Some(base.into_iter().chain(rest.iter().map(|&segment| segment.to_owned())).collect())
    }
}

fn import_paths(tokens: &[Token]) -> Vec<ImportPath<'_>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at = if token.is_word() { take_paths(tokens, at, &[], &mut paths) } else { at + 1 };
    }
    paths
}

/// Adds the paths that begin with `prefix` and continue at `at`. Returns the index after them.
fn take_paths<'a>(
    tokens: &'a [Token],
    at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<ImportPath<'a>>,
) -> usize {
    let mut segments = prefix.to_vec();
    let mut at = at;
    while let Some(token) = tokens.get(at) {
        let is_path_next = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        if token.text == "{" {
            return take_branches(tokens, at + 1, &segments, paths);
        }
        // `::` may also be followed by the `<` of a turbofish.
        if token.is_word() || token.text == "*" {
            segments.push(&token.text);
        }
        if !is_path_next {
            paths.push(ImportPath { line: token.line, segments });
            return at + 1;
        }
        at += 2;
    }
    at
}

/// As `take_paths`, for the content of braces. `at` is after the opening brace.
fn take_branches<'a>(
    tokens: &'a [Token],
    at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<ImportPath<'a>>,
) -> usize {
    let mut at = at;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "}" => return at + 1,
            "," => at += 1,
            _ => at = take_paths(tokens, at, prefix, paths),
        }
    }
    at
}
