//! A disk that loses what was not synced when its power fails: all of it, or any part.
//!
//! What is written is on it once its file was synced, and a name once its folder was. After a sync that has failed, what it was to write never
//! is, unless it is written again: systems have taken such pages for written.

use crate::support::Random;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The unit that is written whole or not at all, in bytes.
const SECTOR: u64 = 512;
/// So many of the last operations are left out, one at a time.
const LAST: usize = 8;

/// Something that a program has done to files.
#[derive(Clone)]
pub enum Operation {
    Make(PathBuf),
    MakeFolder(PathBuf),
    Remove(PathBuf),
    /// At this byte, these.
    Write(PathBuf, u64, Vec<u8>),
    Truncate(PathBuf, u64),
    /// Whether it has succeeded.
    Sync(PathBuf, bool),
    /// A file is found with this content.
    Find(PathBuf, Vec<u8>),
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Make(path) => write!(f, "make {}", path.display()),
            Operation::MakeFolder(path) => write!(f, "make the folder {}", path.display()),
            Operation::Remove(path) => write!(f, "remove {}", path.display()),
            Operation::Write(path, at, bytes) => {
                write!(f, "write {} bytes at {at} of {}", bytes.len(), path.display())
            }
            Operation::Truncate(path, len) => write!(f, "truncate {} to {len} bytes", path.display()),
            Operation::Sync(path, true) => write!(f, "sync {}", path.display()),
            Operation::Find(path, bytes) => write!(f, "find {} bytes in {}", bytes.len(), path.display()),
            Operation::Sync(path, false) => write!(f, "sync {}, which fails", path.display()),
        }
    }
}

/// The files of a disk; none is a folder.
pub type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What is not synced.
#[derive(Debug, Clone)]
enum Change {
    Enter(PathBuf, usize),
    Leave(PathBuf),
    Write(usize, u64, Vec<u8>),
    Truncate(usize, u64),
    /// With zeros, to this many bytes, if it is not as long.
    Grow(usize, u64),
}

pub struct Disk {
    /// What is above all that is on this disk.
    root: PathBuf,
    /// By the name that the program knows, the number of what is there.
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    /// What is synced of each; none is a folder.
    synced: Vec<Option<Vec<u8>>>,
    /// What the program sees.
    seen: Vec<Option<Vec<u8>>>,
    changes: Vec<Change>,
}

impl Disk {
    /// An empty one.
    pub fn new(root: &Path) -> Disk {
        Disk {
            root: root.into(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            synced: Vec::new(),
            seen: Vec::new(),
            changes: Vec::new(),
        }
    }

    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            // It may be there already.
            Operation::Make(path) => self.enter(path, Some(Vec::new())),
            Operation::MakeFolder(path) => self.enter(path, None),
            Operation::Remove(path) => {
                self.names.remove(path);
                self.changes.push(Change::Leave(path.clone()));
            }
            Operation::Write(path, at, bytes) => {
                self.change(Change::Write(self.names[path], *at, bytes.clone()));
            }
            Operation::Truncate(path, len) => {
                self.change(Change::Truncate(self.names[path], *len));
            }
            Operation::Sync(path, succeeded) => self.sync(path, *succeeded),
            Operation::Find(path, content) => {
                self.enter(path, Some(Vec::new()));
                let number = self.names[path];
                if self.seen[number].as_ref() != Some(content) {
                    self.change(Change::Truncate(number, content.len() as u64));
                    self.change(Change::Write(number, 0, content.clone()));
                }
            }
        }
    }

    fn enter(&mut self, path: &Path, content: Option<Vec<u8>>) {
        if !self.names.contains_key(path) {
            let number = self.synced.len();
            self.seen.push(content.clone());
            self.synced.push(content);
            self.names.insert(path.into(), number);
            self.changes.push(Change::Enter(path.into(), number));
        }
    }

    /// Changes what is in a file.
    fn change(&mut self, change: Change) {
        change.apply(&mut BTreeMap::new(), &mut self.seen);
        self.changes.push(change);
    }

    fn sync(&mut self, path: &Path, succeeded: bool) {
        let number = self.names.get(path).copied();
        let is_of = |change: &Change| match change {
            Change::Enter(entry, _) | Change::Leave(entry) => entry.parent() == Some(path),
            _ => change.of() == number,
        };
        let (synced, left) = std::mem::take(&mut self.changes).into_iter().partition(is_of);
        self.changes = left;
        let synced: Vec<Change> = synced;
        if succeeded {
            for change in &synced {
                change.apply(&mut self.synced_names, &mut self.synced);
            }
        }
    }

    /// What may be there if the power fails now.
    pub fn after_power_failure(&self, random: &mut Random, subsets: usize) -> Vec<Files> {
        let all = &self.changes;
        let mut kept: Vec<Vec<Change>> = vec![Vec::new(), all.clone()];
        for end in all.len().saturating_sub(LAST)..all.len() {
            kept.push(all[..end].to_vec());
            let mut without = all.clone();
            without.remove(end);
            kept.push(without);
        }
        for torn in all.last().map(Change::torn).unwrap_or_default() {
            kept.push(all[..all.len() - 1].iter().cloned().chain(torn).collect());
        }
        for number in 0..self.synced.len() {
            let only = |is_it: bool| {
                all.iter()
                    .filter(move |change| is_it == (change.of() == Some(number)))
            };
            kept.push(
                only(true)
                    .chain(all.iter().filter(|change| change.of().is_none()))
                    .cloned()
                    .collect(),
            );
            kept.push(only(false).cloned().collect());
        }
        for _ in 0..subsets {
            let chosen = all.iter().filter(|_| random.below(2) == 0);
            kept.push(chosen.cloned().collect());
        }
        kept.iter().map(|changes| self.with(changes)).collect()
    }

    fn with(&self, changes: &[Change]) -> Files {
        let (mut names, mut content) = (self.synced_names.clone(), self.synced.clone());
        for change in changes {
            change.apply(&mut names, &mut content);
        }
        let mut files = Files::new();
        // A folder comes before what is in it, and that is lost with it.
        for (path, number) in names {
            let parent = path.parent().unwrap();
            if parent == self.root || files.contains_key(parent) {
                files.insert(path, content[number].take());
            }
        }
        files
    }
}

impl Change {
    /// The number of the file whose content it changes.
    fn of(&self) -> Option<usize> {
        match self {
            Change::Write(number, ..) | Change::Truncate(number, _) | Change::Grow(number, _) => {
                Some(*number)
            }
            Change::Enter(..) | Change::Leave(_) => None,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>, contents: &mut [Option<Vec<u8>>]) {
        match self {
            Change::Enter(path, number) => {
                names.insert(path.clone(), *number);
            }
            Change::Leave(path) => {
                names.remove(path);
            }
            Change::Write(number, at, bytes) => {
                let content = contents[*number].as_mut().unwrap();
                let end = *at as usize + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*at as usize..end].copy_from_slice(bytes);
            }
            Change::Truncate(number, len) => contents[*number].as_mut().unwrap().resize(*len as usize, 0),
            Change::Grow(number, len) => {
                let content = contents[*number].as_mut().unwrap();
                content.resize(content.len().max(*len as usize), 0);
            }
        }
    }

    /// What may be left of it if it was not finished: the first half of its sectors, the other half, or the first and a file that is as long.
    fn torn(&self) -> Vec<Vec<Change>> {
        let Change::Write(number, at, bytes) = self else {
            return Vec::new();
        };
        let middle = (at + bytes.len() as u64 / 2) / SECTOR * SECTOR;
        if middle <= *at {
            return Vec::new();
        }
        let (first, second) = bytes.split_at((middle - at) as usize);
        let first = Change::Write(*number, *at, first.to_vec());
        let second = Change::Write(*number, middle, second.to_vec());
        let grown = Change::Grow(*number, at + bytes.len() as u64);
        vec![vec![first.clone()], vec![second], vec![first, grown]]
    }
}
