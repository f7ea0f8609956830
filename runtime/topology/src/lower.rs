//! From syntax to meaning: names, kinds and values, each checked where it stands.
use crate::diagnostic::{Diagnostic, did_you_mean, enough};
use crate::model::{
    Algorithm, Connection, Detector, Isolation, Limits, LoadBalancing, Missed, Node, NodeKind, Persistence,
    Resources, Results, Retry, Route, Schedule, Services, Topology,
};
use crate::source::{Sources, Span};
use crate::syntax::{self, Item, Statement, Word, WordKind};
use crate::value::{Durability, Period, Rate, Size};
use crate::vocabulary::{Kind, Setting, one_of, section};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use torhost_schedule::{Cron, Zone};

const STATEMENTS: [&str; 7] = [
    "set",
    "include",
    "node",
    "connection",
    "policy",
    "route",
    "schedule",
];
const POLICIES: [&str; 5] = ["load_balancing", "limits", "retry", "results", "persistence"];
/// Include files within include files, this deep at most.
const MAX_INCLUDES: usize = 16;
/// How many files there may be in all: a file may be included in many places.
const MAX_FILES: usize = 1000;
/// How many characters the name of a node may have: a worker registers under it.
const MAX_NODE_NAME: usize = 64;
/// How many bytes a value may have once its variables are replaced: each could otherwise double the one before.
const MAX_VALUE: usize = 64 * 1024;

/// A topology, where each of its parts stands, and what was wrong.
pub(crate) struct Lowered {
    pub topology: Topology,
    pub places: Places,
    pub sources: Sources,
    pub mistakes: Vec<Diagnostic>,
    /// Whether some statement could not be made out, so that what seems to be missing may well be there.
    pub incomplete: bool,
    /// Whether some node's settings could not be made out, so that it may be a master, or offer what seems to be missing.
    pub vague: bool,
}

/// Where the parts of a topology stand, for checks that concern several of them.
#[derive(Default)]
pub(crate) struct Places {
    /// By index in `Topology::nodes`: the name, and the settings by key.
    pub nodes: Vec<(Span, HashMap<&'static str, Span>)>,
    /// By index in `Topology::connections`: the two names, and the settings.
    pub connections: Vec<([Span; 2], HashMap<&'static str, Span>)>,
    /// By index in `Topology::routes`: for each required capability.
    pub routes: Vec<Vec<Span>>,
    /// By index in `Topology::schedules`: the name, and each required capability.
    pub schedules: Vec<(Span, Vec<Span>)>,
    /// By policy and key.
    pub policies: HashMap<(&'static str, &'static str), Span>,
    /// The policies some of whose settings could not be made out.
    pub vague_policies: HashSet<&'static str>,
}

/// Reads a file's text and the files that it includes.
pub(crate) fn lower(path: &Path, text: String) -> Lowered {
    let mut reader = Lowerer {
        out: Lowered {
            topology: Topology::default(),
            places: Places::default(),
            sources: Sources::default(),
            mistakes: Vec::new(),
            incomplete: false,
            vague: false,
        },
        variables: HashMap::new(),
        names: HashMap::new(),
        including: Vec::new(),
    };
    let file = reader.out.sources.add(path.to_owned(), text);
    reader.file(file);
    reader.out
}

struct Lowerer {
    out: Lowered,
    variables: HashMap<String, (String, Span)>,
    /// What was declared, by what kind of thing and name.
    names: HashMap<(&'static str, String), Span>,
    /// The files that are being read, for cycles.
    including: Vec<PathBuf>,
}

/// A value that fits its setting.
enum Value {
    Text(String),
    Number(i64),
    Boolean(bool),
    Size(Size),
    Rate(Rate),
    Period(Period),
    Durability(Durability),
    Names(Vec<(String, Span)>),
    Block(Settings),
}

/// The settings of a block, by key; keys are those of the vocabulary.
#[derive(Default)]
struct Settings {
    values: HashMap<&'static str, (Value, Span)>,
}

impl Settings {
    fn places(&self) -> HashMap<&'static str, Span> {
        self.values.iter().map(|(key, (_, span))| (*key, *span)).collect()
    }
}

macro_rules! getter {
    ($name:ident, $variant:ident, $type:ty) => {
        fn $name(&mut self, key: &str) -> Option<$type> {
            match self.values.remove(key) {
                Some((Value::$variant(value), _)) => Some(value),
                _ => None,
            }
        }
    };
}

impl Settings {
    getter!(text, Text, String);
    getter!(number, Number, i64);
    getter!(boolean, Boolean, bool);
    getter!(size, Size, Size);
    getter!(rate, Rate, Rate);
    getter!(period, Period, Period);
    getter!(durability, Durability, Durability);
    getter!(names, Names, Vec<(String, Span)>);
    getter!(block, Block, Settings);

    /// A number whose range in the vocabulary fits the type.
    fn integer<T: TryFrom<i64>>(&mut self, key: &str) -> Option<T> {
        self.number(key).and_then(|number| T::try_from(number).ok())
    }
}

impl Lowerer {
    fn mistake(&mut self, found: Diagnostic) {
        self.out.mistakes.push(found);
    }

    fn file(&mut self, file: usize) {
        let source = &self.out.sources.files[file];
        let path = source.path.clone();
        self.including.push(path.canonicalize().unwrap_or(path));
        let (items, mistakes) = syntax::parse(file, &source.text);
        self.out.incomplete |= !mistakes.is_empty();
        // What follows a brace that is never closed is not where it was meant to be.
        let unclosed = mistakes
            .iter()
            .find(|found| found.code == "unclosed-brace" || found.code == "too-deep");
        let sure = unclosed.map_or(usize::MAX, |found| found.primary.span.start);
        self.out.mistakes.extend(mistakes);
        for statement in statements(&items).filter(|statement| statement.span.end <= sure) {
            self.statement(statement);
        }
        self.including.pop();
    }

    fn statement(&mut self, statement: &Statement) {
        let (head, rest) = (&statement.words[0], &statement.words[1..]);
        match bare(head) {
            Some("set") => self.set(statement, rest),
            Some("include") => self.include(statement, rest),
            Some("node") => self.node(statement, rest),
            Some("connection") => self.connection(statement, rest),
            Some("policy") => self.policy(statement, rest),
            Some("route") => self.route(statement, rest),
            Some("schedule") => self.schedule(statement, rest),
            other => {
                self.out.incomplete = true;
                let mut found =
                    Diagnostic::error("unknown-statement", head.span, "there is no such statement")
                        .label(format!("expected {}", one_of(&STATEMENTS)));
                found.help = other.and_then(|word| did_you_mean(word, STATEMENTS));
                self.mistake(found);
            }
        }
    }

    fn wrong_form(&mut self, statement: &Statement, form: &str) {
        self.out.incomplete = true;
        let found = Diagnostic::error("wrong-form", statement.span, format!("expected `{form}`"));
        self.mistake(found);
    }

    fn set(&mut self, statement: &Statement, rest: &[Word]) {
        let [name, value] = rest else {
            self.wrong_form(statement, "set NAME value");
            if rest.len() > 2
                && let Some(found) = self.out.mistakes.last_mut()
            {
                found.help = Some("put a value with blanks in quotes: \"…\"".to_owned());
            }
            return;
        };
        let (Some(key), value) = (self.name(name, "a variable"), self.text(value)) else {
            return;
        };
        let Some(value) = value else {
            // Those who use it are not to blame.
            self.variables.insert(key, (String::new(), name.span));
            return;
        };
        if key == "LOG_LEVEL" {
            let levels = ["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
            if !levels.contains(&value.to_uppercase().as_str()) {
                let found = Diagnostic::error("bad-value", rest[1].span, "no such level")
                    .label(format!("expected {}", one_of(&levels)));
                self.mistake(found);
            }
        }
        if let Some((_, before)) = self.variables.get(&key) {
            let found = Diagnostic::error("duplicate", name.span, format!("`{key}` is set twice"))
                .label("again here")
                .also(*before, "first set here");
            return self.mistake(found);
        }
        self.variables.insert(key.clone(), (value.clone(), name.span));
        self.out.topology.settings.insert(key, value);
    }

    fn include(&mut self, statement: &Statement, rest: &[Word]) {
        let [word] = rest else {
            return self.wrong_form(statement, "include \"other.top\"");
        };
        let Some(name) = self.text(word) else { return };
        let from = &self.out.sources.files[word.span.file].path;
        let path = from.parent().unwrap_or(Path::new("")).join(&name);
        let canonical = path.canonicalize().unwrap_or_else(|_| path.clone());
        if self.including.contains(&canonical) {
            let found = Diagnostic::error("include-cycle", word.span, format!("`{name}` includes itself"))
                .label("it is being read already, and this would go on for ever");
            return self.mistake(found);
        }
        let files = self.out.sources.files.len();
        if self.including.len() >= MAX_INCLUDES || files >= MAX_FILES {
            let message = format!("more than {MAX_INCLUDES} files within one another, or {MAX_FILES} in all");
            return self.mistake(Diagnostic::error("too-deep", word.span, message));
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let file = self.out.sources.add(path, text);
                self.file(file);
            }
            Err(error) => {
                let found = Diagnostic::error(
                    "unreadable",
                    word.span,
                    format!("cannot read `{}`", path.display()),
                )
                .label(error.to_string());
                self.mistake(found);
            }
        }
    }

    fn node(&mut self, statement: &Statement, rest: &[Word]) {
        let [name_word, body] = rest else {
            return self.wrong_form(statement, "node NAME { … }");
        };
        let name = self.name(name_word, "a node");
        let name = name.filter(|name| self.is_short(name_word, name));
        let name = name.filter(|name| self.declare("node", name, name_word.span));
        let before = self.out.mistakes.len();
        let settings = self.settings("node", body);
        // A setting that seems to be missing may be the one that was misspelt.
        let sound = before == self.out.mistakes.len();
        self.out.vague |= !sound;
        let (Some(name), Some(mut settings)) = (name, settings) else {
            self.out.incomplete = true;
            return;
        };
        let places = settings.places();
        let word = |word: String| NodeKind::from_word(&word);
        let kind = match settings.text("type").and_then(word) {
            Some(kind) => kind,
            None => {
                if sound {
                    let found = Diagnostic::error("missing", name_word.span, format!("`{name}` has no type"))
                        .help("add `type master`, `type worker` or `type client`");
                    self.mistake(found);
                }
                self.out.vague = true;
                NodeKind::Client
            }
        };
        let port = settings.integer("port");
        if sound && kind == NodeKind::Master && port.is_none() {
            let found = Diagnostic::error(
                "missing",
                name_word.span,
                format!("the master `{name}` has no port"),
            )
            .help("add the port that it listens on: `port 9000`");
            self.mistake(found);
        }
        let mut resources = settings.block("resources").unwrap_or_default();
        let mut services = settings.block("services").unwrap_or_default();
        let defaults = (Resources::default(), Services::default());
        self.out.topology.nodes.push(Node {
            name,
            kind,
            address: settings.text("address").unwrap_or_else(|| "localhost".to_owned()),
            port,
            script: settings.text("script").map(PathBuf::from),
            capabilities: only_names(settings.names("capabilities")),
            isolation: settings
                .text("isolation")
                .and_then(|word| Isolation::from_word(&word))
                .unwrap_or_default(),
            resources: Resources {
                cpu: resources.integer("cpu").unwrap_or(defaults.0.cpu),
                memory: resources.size("memory"),
                storage: resources.size("storage"),
            },
            services: Services {
                job_scheduler: services
                    .boolean("job_scheduler")
                    .unwrap_or(defaults.1.job_scheduler),
                load_balancer: services
                    .boolean("load_balancer")
                    .unwrap_or(defaults.1.load_balancer),
                monitor: services.boolean("monitor").unwrap_or(defaults.1.monitor),
            },
        });
        self.out.places.nodes.push((name_word.span, places));
    }

    fn connection(&mut self, statement: &Statement, rest: &[Word]) {
        let (from, to, body) = match rest {
            [from, arrow, to] if bare(arrow) == Some("->") => (from, to, None),
            [from, arrow, to, body] if bare(arrow) == Some("->") => (from, to, Some(body)),
            _ => return self.wrong_form(statement, "connection A -> B { … }"),
        };
        let names = (self.name(from, "a node"), self.name(to, "a node"));
        let settings = match body {
            Some(body) => self.settings("connection", body),
            None => Some(Settings::default()),
        };
        let ((Some(from_name), Some(to_name)), Some(mut settings)) = (names, settings) else {
            return;
        };
        let mut pair = [from_name.as_str(), to_name.as_str()];
        pair.sort_unstable();
        if !self.declare("connection", &pair.join(" -> "), statement.span) {
            return;
        }
        let places = settings.places();
        self.out.topology.connections.push(Connection {
            from: from_name,
            to: to_name,
            protocol: settings.text("protocol").unwrap_or_else(|| "tcp".to_owned()),
            bandwidth: settings.rate("bandwidth"),
            latency: settings.period("latency"),
            encrypted: settings.boolean("encrypted").unwrap_or(false),
        });
        self.out.places.connections.push(([from.span, to.span], places));
    }

    fn policy(&mut self, statement: &Statement, rest: &[Word]) {
        let [name_word, body] = rest else {
            return self.wrong_form(statement, "policy NAME { … }");
        };
        let Some(policy) = POLICIES
            .into_iter()
            .find(|&policy| bare(name_word) == Some(policy))
        else {
            let mut found = Diagnostic::error("unknown-policy", name_word.span, "there is no such policy")
                .label(format!("expected {}", one_of(&POLICIES)));
            found.help = bare(name_word).and_then(|word| did_you_mean(word, POLICIES));
            return self.mistake(found);
        };
        if !self.declare("policy", policy, name_word.span) {
            return;
        }
        let before = self.out.mistakes.len();
        let settings = self.settings(&format!("policy {policy}"), body);
        if before != self.out.mistakes.len() {
            self.out.places.vague_policies.insert(policy);
        }
        let Some(mut settings) = settings else {
            return;
        };
        let places = settings.places();
        self.out
            .places
            .policies
            .extend(places.into_iter().map(|(key, span)| ((policy, key), span)));
        let policies = &mut self.out.topology.policies;
        match policy {
            "load_balancing" => policies.load_balancing = load_balancing(&mut settings),
            "limits" => policies.limits = limits(&mut settings),
            "retry" => policies.retry = retry(&mut settings),
            "results" => policies.results = results(&mut settings),
            _ => policies.persistence = persistence(&mut settings),
        }
    }

    fn route(&mut self, statement: &Statement, rest: &[Word]) {
        let [glob_word, body] = rest else {
            return self.wrong_form(statement, "route \"GLOB\" { … }");
        };
        let (Some(glob), Some(mut settings)) = (self.text(glob_word), self.settings("route", body)) else {
            return;
        };
        if !self.declare("route", &glob, glob_word.span) {
            return;
        }
        let requires = settings.names("requires").unwrap_or_default();
        self.out
            .places
            .routes
            .push(requires.iter().map(|(_, span)| *span).collect());
        self.out.topology.routes.push(Route {
            glob,
            requires: only_names(Some(requires)),
            priority: settings.integer("priority").unwrap_or(0),
            timeout: settings.period("timeout"),
            retries: settings.integer("retries"),
        });
    }

    fn schedule(&mut self, statement: &Statement, rest: &[Word]) {
        let [name_word, body] = rest else {
            return self.wrong_form(statement, "schedule NAME { … }");
        };
        let name = self.name(name_word, "a schedule");
        let name = name.filter(|name| self.declare("schedule", name, name_word.span));
        let before = self.out.mistakes.len();
        let settings = self.settings("schedule", body);
        // A setting that seems to be missing may be the one that was misspelt.
        let sound = before == self.out.mistakes.len();
        let (Some(name), Some(mut settings)) = (name, settings) else {
            return;
        };
        let (cron, submit) = (settings.text("cron"), settings.text("submit"));
        for (key, is_missing, help) in [
            (
                "cron",
                cron.is_none(),
                "add when it runs: `cron \"0 3 * * *\"` is every day at three",
            ),
            (
                "submit",
                submit.is_none(),
                "add the data of the job: `submit \"rebuild the index\"`",
            ),
        ] {
            if sound && is_missing {
                let message = format!("the schedule `{name}` has no `{key}`");
                self.mistake(Diagnostic::error("missing", name_word.span, message).help(help));
            }
        }
        let (Some(cron), Some(submit)) = (cron, submit) else {
            return;
        };
        let requires = settings.names("requires");
        let places = requires.iter().flatten().map(|(_, span)| *span).collect();
        self.out.places.schedules.push((name_word.span, places));
        self.out.topology.schedules.push(Schedule {
            name,
            cron,
            timezone: settings.text("timezone").unwrap_or_else(|| "UTC".to_owned()),
            missed: settings
                .text("missed")
                .and_then(|word| Missed::from_word(&word))
                .unwrap_or_default(),
            submit,
            priority: settings.integer("priority"),
            requires: requires.map(|names| only_names(Some(names))),
            timeout: settings.period("timeout"),
            deadline: settings.period("deadline"),
            retries: settings.integer("retries"),
            affinity: settings.text("affinity"),
        });
    }

    /// Whether a text is a cron expression; a mistake, at the field that is wrong, if it is none.
    fn is_cron(&mut self, word: &Word, text: &str) -> bool {
        let Err(bad) = text.parse::<Cron>() else {
            return true;
        };
        let mut span = word.span;
        // Where variables or escapes were replaced, places in the text are not places in the file.
        if let WordKind::Bare(raw) | WordKind::Quoted(raw) = &word.kind
            && raw == text
            && !bad.at.is_empty()
        {
            let start = span.start + usize::from(matches!(word.kind, WordKind::Quoted(_)));
            (span.start, span.end) = (start + bad.at.start, start + bad.at.end);
        }
        let found = Diagnostic::error("bad-cron", span, bad.what).label(format!("expected {}", bad.expected));
        self.mistake(found);
        false
    }

    /// Whether there is such a time zone; a mistake if there is not.
    fn is_time_zone(&mut self, word: &Word, text: &str) -> bool {
        let is_known = text.parse::<Zone>().is_ok();
        if !is_known {
            let mut found = Diagnostic::error("unknown-timezone", word.span, "there is no such time zone")
                .label(format!("expected {}", Kind::TimeZone.expected()));
            if !enough(&self.out.mistakes) {
                found.help = did_you_mean(text, Zone::names().iter().map(String::as_str));
            }
            self.mistake(found);
        }
        is_known
    }

    /// Notes a name; false, and a mistake, if there is one like it.
    fn declare(&mut self, what: &'static str, name: &str, span: Span) -> bool {
        if let Some(before) = self.names.get(&(what, name.to_owned())).copied() {
            let found = Diagnostic::error("duplicate", span, format!("the {what} `{name}` is there twice"))
                .label("again here")
                .also(before, "first here");
            self.mistake(found);
            return false;
        }
        self.names.insert((what, name.to_owned()), span);
        true
    }

    /// A word that names something.
    fn name(&mut self, word: &Word, what: &str) -> Option<String> {
        let name = self.text(word)?;
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !name.is_empty() && name.chars().all(fits) && !name.starts_with(['-', '.']) {
            return Some(name);
        }
        let found = Diagnostic::error(
            "bad-name",
            word.span,
            format!("this cannot be the name of {what}"),
        )
        .label("expected letters, digits, `_`, `-` and `.`");
        self.mistake(found);
        None
    }

    /// Whether a node's name is no longer than a coordinator takes; a mistake if it is.
    fn is_short(&mut self, word: &Word, name: &str) -> bool {
        let length = name.chars().count();
        if length > MAX_NODE_NAME {
            let message = format!("the name of this node has {length} characters");
            let found = Diagnostic::error("bad-name", word.span, message)
                .label(format!("expected at most {MAX_NODE_NAME}"));
            self.mistake(found);
        }
        length <= MAX_NODE_NAME
    }

    /// A word's text, its variables and escapes replaced.
    fn text(&mut self, word: &Word) -> Option<String> {
        let (text, start) = match &word.kind {
            WordKind::Bare(text) => (text, word.span.start),
            WordKind::Quoted(text) => (text, word.span.start + 1),
            WordKind::Block(_) => {
                let found =
                    Diagnostic::error("bad-value", word.span, "expected one word, but this is a block");
                self.mistake(found);
                return None;
            }
        };
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        let mut whole = true;
        while let Some(c) = rest.chars().next() {
            if out.len() > MAX_VALUE {
                let message =
                    format!("this is longer than {MAX_VALUE} bytes once its variables are replaced");
                self.mistake(Diagnostic::error("too-long", word.span, message));
                return None;
            }
            let at = start + text.len() - rest.len();
            let place = |len: usize| Span {
                file: word.span.file,
                start: at,
                end: at + len,
            };
            rest = &rest[c.len_utf8()..];
            match c {
                '\\' => {
                    let escaped = rest.chars().next().unwrap_or('\\');
                    rest = rest.get(escaped.len_utf8()..).unwrap_or("");
                    match escaped {
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        '"' | '\\' | '$' | '{' | '}' | ';' | '#' | ' ' => out.push(escaped),
                        other => {
                            let message = format!("`\\{other}` means nothing");
                            let found = Diagnostic::error("bad-escape", place(1 + other.len_utf8()), message)
                                .help("the escapes are \\n \\t \\r \\\" \\\\ \\$ \\{ \\} \\; \\# and \\ before a blank");
                            self.mistake(found);
                            whole = false;
                        }
                    }
                }
                '$' => {
                    let (name, len) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                        Some((name, _)) => (name, name.len() + 2),
                        None => {
                            let end = rest
                                .find(|c: char| !c.is_alphanumeric() && c != '_')
                                .unwrap_or(rest.len());
                            (&rest[..end], end)
                        }
                    };
                    if name.is_empty() {
                        out.push('$');
                        continue;
                    }
                    rest = &rest[len..];
                    match self.variables.get(name) {
                        Some((value, _)) => out.push_str(value),
                        None => {
                            let message = format!("`{name}` is not set before here");
                            let mut found = Diagnostic::error("unknown-variable", place(1 + len), message);
                            if !enough(&self.out.mistakes) {
                                found.help = did_you_mean(name, self.variables.keys().map(String::as_str));
                            }
                            self.mistake(found);
                            whole = false;
                        }
                    }
                }
                other => out.push(other),
            }
        }
        whole.then_some(out)
    }

    /// The settings in a block; a block that is none is a mistake and gives nothing.
    fn settings(&mut self, section_name: &str, body: &Word) -> Option<Settings> {
        let WordKind::Block(items) = &body.kind else {
            let found = Diagnostic::error("bad-value", body.span, "expected a block in `{` and `}`");
            self.mistake(found);
            return None;
        };
        let mut settings = Settings::default();
        for statement in statements(items) {
            let (key_word, rest) = (&statement.words[0], &statement.words[1..]);
            let key = bare(key_word);
            let Some(setting) = section(section_name).find(|setting| key == Some(setting.key)) else {
                let known: Vec<&str> = section(section_name).map(|setting| setting.key).collect();
                let message = format!("there is no such setting in `{section_name}`");
                let mut found = Diagnostic::error("unknown-setting", key_word.span, message)
                    .label(format!("expected {}", one_of(&known)));
                found.help = key.and_then(|word| did_you_mean(word, known));
                self.mistake(found);
                continue;
            };
            if let Some((_, before)) = settings.values.get(setting.key) {
                let found = Diagnostic::error(
                    "duplicate",
                    key_word.span,
                    format!("`{}` is set twice", setting.key),
                )
                .label("again here")
                .also(*before, "first set here");
                self.mistake(found);
                continue;
            }
            if rest.is_empty() {
                let end = Span {
                    start: statement.span.end,
                    ..statement.span
                };
                let found = Diagnostic::error("missing", end, format!("`{}` has no value", setting.key))
                    .label(format!("expected {}", setting.kind.expected()));
                self.mistake(found);
                continue;
            }
            if let Some(value) = self.value(setting, rest) {
                let place = Span {
                    start: rest[0].span.start,
                    ..statement.span
                };
                settings.values.insert(setting.key, (value, place));
            }
        }
        Some(settings)
    }

    fn value(&mut self, setting: &Setting, words: &[Word]) -> Option<Value> {
        match setting.kind {
            Kind::Names => return self.names(words).map(Value::Names),
            Kind::Block if words.len() == 1 => {
                return self
                    .settings(&format!("{} {}", setting.section, setting.key), &words[0])
                    .map(Value::Block);
            }
            Kind::Durability => return self.durability(setting, words),
            _ => {}
        }
        if let [_, extra, ..] = words {
            let message = format!("`{}` takes one value", setting.key);
            let mut found =
                Diagnostic::error("extra-word", extra.span, message).label("this is one too many");
            let next = bare(extra).filter(|word| section(setting.section).any(|other| other.key == *word));
            if let Some(next) = next {
                found.help = Some(format!("put a newline or `;` before `{next}`"));
            } else if matches!(setting.kind, Kind::Text | Kind::Cron) {
                found = found.help("put a text with blanks in quotes: \"…\"");
            }
            self.mistake(found);
            return None;
        }
        let text = self.text(&words[0])?;
        match setting.kind {
            Kind::Cron => return self.is_cron(&words[0], &text).then_some(Value::Text(text)),
            Kind::TimeZone => return self.is_time_zone(&words[0], &text).then_some(Value::Text(text)),
            _ => {}
        }
        let value = match setting.kind {
            Kind::Text => (!text.is_empty()).then(|| Value::Text(text.clone())),
            Kind::Number(least, most) => text
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .map(Value::Number),
            Kind::Boolean => match text.as_str() {
                "true" | "yes" | "on" => Some(Value::Boolean(true)),
                "false" | "no" | "off" => Some(Value::Boolean(false)),
                _ => None,
            },
            Kind::Size(least, most) => text
                .parse()
                .ok()
                .filter(|size| (least..=most).contains(size))
                .map(Value::Size),
            Kind::Rate => text.parse().ok().map(Value::Rate),
            Kind::Period(least, most) => text
                .parse()
                .ok()
                .filter(|period| (least..=most).contains(period))
                .map(Value::Period),
            Kind::Choice(choices) => choices
                .contains(&text.as_str())
                .then(|| Value::Text(text.clone())),
            Kind::Durability | Kind::Cron | Kind::TimeZone | Kind::Names | Kind::Block => None,
        };
        if value.is_none() {
            let mut found = bad_value(setting, words[0].span);
            if let Kind::Choice(choices) = setting.kind {
                found.help = did_you_mean(&text, choices.iter().copied());
            }
            self.mistake(found);
        }
        value
    }

    fn durability(&mut self, setting: &Setting, words: &[Word]) -> Option<Value> {
        let texts: Option<Vec<String>> = words.iter().map(|word| self.text(word)).collect();
        let durability = texts?.join(" ").parse().ok().map(Value::Durability);
        if durability.is_none() {
            let (first, last) = (words[0].span, words[words.len() - 1].span);
            let all = Span {
                end: last.end,
                ..first
            };
            self.mistake(bad_value(setting, all));
        }
        durability
    }

    /// Names one after the other, or in a block.
    fn names(&mut self, words: &[Word]) -> Option<Vec<(String, Span)>> {
        let mut names: Vec<(String, Span)> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut whole = true;
        let inner: Vec<&Word> = match words {
            [
                Word {
                    kind: WordKind::Block(items),
                    ..
                },
            ] => statements(items).flat_map(|statement| &statement.words).collect(),
            _ => words.iter().collect(),
        };
        for word in inner {
            match self.name(word, "a capability") {
                Some(name) => match seen.insert(name.clone(), word.span) {
                    Some(before) => {
                        let found =
                            Diagnostic::error("duplicate", word.span, format!("`{name}` is listed twice"))
                                .also(before, "first here");
                        self.mistake(found);
                    }
                    None => names.push((name, word.span)),
                },
                None => whole = false,
            }
        }
        whole.then_some(names)
    }
}

fn load_balancing(settings: &mut Settings) -> LoadBalancing {
    let defaults = LoadBalancing::default();
    LoadBalancing {
        algorithm: settings
            .text("algorithm")
            .and_then(|word| Algorithm::from_word(&word))
            .unwrap_or(defaults.algorithm),
        health_check_interval: settings
            .period("health_check_interval")
            .unwrap_or(defaults.health_check_interval),
        heartbeat_interval: settings
            .period("heartbeat_interval")
            .unwrap_or(defaults.heartbeat_interval),
        detector: settings
            .text("detector")
            .and_then(|word| Detector::from_word(&word))
            .unwrap_or(defaults.detector),
        phi_threshold: settings
            .integer("phi_threshold")
            .unwrap_or(defaults.phi_threshold),
        failover: settings.boolean("failover").unwrap_or(defaults.failover),
    }
}

fn limits(settings: &mut Settings) -> Limits {
    let defaults = Limits::default();
    Limits {
        max_line: settings.size("max_line").unwrap_or(defaults.max_line),
        max_connections: settings
            .integer("max_connections")
            .unwrap_or(defaults.max_connections),
        max_pending: settings.size("max_pending").unwrap_or(defaults.max_pending),
        max_queued: settings.integer("max_queued").unwrap_or(defaults.max_queued),
        max_resident: settings.integer("max_resident").unwrap_or(defaults.max_resident),
    }
}

fn retry(settings: &mut Settings) -> Retry {
    let defaults = Retry::default();
    Retry {
        attempts: settings.integer("attempts").unwrap_or(defaults.attempts),
        backoff: settings.period("backoff").unwrap_or(defaults.backoff),
        max_backoff: settings.period("max_backoff").unwrap_or(defaults.max_backoff),
        max_losses: settings.integer("max_losses").unwrap_or(defaults.max_losses),
    }
}

fn results(settings: &mut Settings) -> Results {
    let defaults = Results::default();
    Results {
        keep: settings.integer("keep").unwrap_or(defaults.keep),
        keep_for: settings.period("keep_for").unwrap_or(defaults.keep_for),
    }
}

fn persistence(settings: &mut Settings) -> Persistence {
    let defaults = Persistence::default();
    Persistence {
        durability: settings.durability("durability").unwrap_or(defaults.durability),
        path: settings.text("path").unwrap_or(defaults.path),
    }
}

fn bad_value(setting: &Setting, span: Span) -> Diagnostic {
    let message = format!("bad value for `{}`", setting.key);
    Diagnostic::error("bad-value", span, message).label(format!("expected {}", setting.kind.expected()))
}

fn statements(items: &[Item]) -> impl Iterator<Item = &Statement> {
    items.iter().filter_map(|item| match item {
        Item::Statement(statement) => Some(statement),
        _ => None,
    })
}

fn bare(word: &Word) -> Option<&str> {
    match &word.kind {
        WordKind::Bare(text) => Some(text),
        _ => None,
    }
}

fn only_names(names: Option<Vec<(String, Span)>>) -> Vec<String> {
    names
        .unwrap_or_default()
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}
