//! One system, one supervisor: the folder that says who that is, and where to reach it.
//!
//! The folder is named after the topology's canonical path. Whoever holds the lock in it is the supervisor; the kernel
//! lets go of the lock when that process ends, however it ends, so a socket left behind by `kill -9` misleads nobody.
use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;

/// How long a client waits for a supervisor that has the lock but not yet its socket.
const SOCKET_WAIT: Duration = Duration::from_secs(2);

/// Where the supervisor of one topology is found, whether or not it runs.
pub(crate) struct Instance {
    topology: PathBuf,
    folder: PathBuf,
}

/// The right to supervise a system, until this is dropped or the process ends.
pub(crate) struct Claim {
    lock: File,
    socket: PathBuf,
}

impl Instance {
    /// The instance of a topology, given by its canonical path.
    pub(crate) fn of(topology: &Path) -> Result<Self, Error> {
        let parent = match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(folder) if folder.is_dir() => folder.join("torhost"),
            _ => PathBuf::from(format!("/tmp/torhost-{}", rustix::process::geteuid().as_raw())),
        };
        own_folder(&parent)?;
        let folder = parent.join(format!("{:016x}", fnv1a(topology.as_os_str().as_bytes())));
        own_folder(&folder)?;
        Ok(Self {
            topology: topology.to_owned(),
            folder,
        })
    }

    /// Becomes the supervisor; `Ok(Err(pid))` tells which process already is.
    pub(crate) fn claim(&self) -> Result<Result<Claim, Option<u32>>, Error> {
        let path = self.folder.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // An unreadable number only makes the sentence less exact.
                let _ = lock.read_to_string(&mut pid);
                return Ok(Err(pid.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(Error::file("lock", path)(error)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", process::id()))
            .map_err(Error::file("write", path))?;
        Ok(Ok(Claim {
            lock,
            socket: self.socket(),
        }))
    }

    /// Connects to the supervisor.
    pub(crate) fn connect(&self) -> Result<UnixStream, Error> {
        let give_up = Instant::now() + SOCKET_WAIT;
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => return Ok(stream),
                Err(_) if self.is_claimed() && Instant::now() < give_up => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(_) => return Err(Error::NotRunning(self.topology.clone())),
            }
        }
    }

    /// Whether some process holds the lock. A shared lock asks, so that two who ask do not mislead each other.
    fn is_claimed(&self) -> bool {
        File::open(self.folder.join("lock"))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("control")
    }
}

impl Claim {
    /// Opens the control socket, in place of one that an earlier supervisor left behind.
    pub(crate) fn listen(&self) -> Result<UnixListener, Error> {
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &self.socket)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&self.socket).map_err(Error::file("listen on", &self.socket))?;
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o600))
            .map_err(Error::file("protect", &self.socket))?;
        Ok(listener)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The socket first: whoever gets the lock next may already be making another.
        let _ = fs::remove_file(&self.socket);
        let _ = self.lock.unlock();
    }
}

/// Makes a folder that only its owner can use, or sees that an existing one is such.
fn own_folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::file("make the folder", path)(error)),
    }
    let found = fs::symlink_metadata(path).map_err(Error::file("look at", path))?;
    let owned = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && owned && found.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(Error::UnsafeFolder(path.to_owned()))
    }
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same in every build, which the standard library's
/// hasher does not promise, and short, which a socket's path must be.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
