//! A file system in memory that forgets: at a crash, what was written since a file's last sync is kept, dropped or torn
//! by 512-byte sectors, and names made or removed since the last sync of anything are kept up to a random one (as an ordered
//! journal does). Syncs can be told to fail. Mounted through FUSE under an unchanged server.

use super::Seeded;
use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECTOR: usize = 512;
const TTL: Duration = Duration::from_secs(60);

/// Name of an entry: its directory and its name there.
type Place = (u64, OsString);

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

#[derive(Default)]
struct File {
    /// Only its name lives here, the kernel does the rest.
    is_socket: bool,
    live: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Change>,
}

enum Named {
    Made(Place, u64),
    Gone(Place),
}

#[derive(Default)]
struct State {
    /// Directories have no content.
    files: BTreeMap<u64, Option<File>>,
    names: BTreeMap<Place, u64>,
    synced_names: BTreeMap<Place, u64>,
    renamed: Vec<Named>,
    last: u64,
    fail_syncs: bool,
}

/// The disk: survives mounts and crashes.
#[derive(Clone)]
pub struct LossyDisk(Arc<Mutex<State>>);

impl LossyDisk {
    /// Empty.
    pub fn new() -> LossyDisk {
        let mut state = State { last: 1, ..State::default() };
        state.files.insert(1, None);
        LossyDisk(Arc::new(Mutex::new(state)))
    }

    /// Mounts it; unmounted when the session is dropped. Needs root.
    pub fn mount(&self, at: &Path) -> BackgroundSession {
        let mut config = fuser::Config::default();
        config.mount_options = vec![fuser::MountOption::FSName("lossy".to_owned())];
        fuser::spawn_mount(LossyDisk(self.0.clone()), at, &config)
            .expect("cannot mount FUSE (needs root and /dev/fuse)")
    }

    /// From now on every sync fails, or works again.
    pub fn fail_syncs(&self, fail: bool) {
        self.0.lock().unwrap().fail_syncs = fail;
    }

    /// The power goes: what was not synced is kept, dropped or torn. Nothing may have it mounted.
    pub fn crash(&self, random: &mut Seeded) {
        let mut guard = self.0.lock().unwrap();
        let state = &mut *guard;
        let keep = random.within(0..state.renamed.len() as u64 + 1) as usize;
        for change in state.renamed.drain(..).take(keep) {
            apply_name(&mut state.synced_names, change);
        }
        state.names = state.synced_names.clone();
        let reachable: Vec<u64> = state.names.values().copied().chain([1]).collect();
        state.files.retain(|ino, _| reachable.contains(ino));
        for file in state.files.values_mut().flatten() {
            for change in std::mem::take(&mut file.pending) {
                lose(&mut file.synced, change, random);
            }
            file.live = file.synced.clone();
        }
    }
}

fn lose(content: &mut Vec<u8>, change: Change, random: &mut Seeded) {
    match (change, random.within(0..3)) {
        (_, 0) => {}
        (Change::Write { offset, data }, 1) => {
            for (n, sector) in data.chunks(SECTOR).enumerate() {
                if random.within(0..2) == 0 {
                    write_at(content, offset + n * SECTOR, sector);
                }
            }
        }
        (change, _) => apply(content, &change),
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => write_at(content, *offset, data),
        Change::Resize(size) => content.resize(*size, 0),
    }
}

fn write_at(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}

fn apply_name(names: &mut BTreeMap<Place, u64>, change: Named) {
    match change {
        Named::Made(place, ino) => drop(names.insert(place, ino)),
        Named::Gone(place) => drop(names.remove(&place)),
    }
}

fn kind_of(content: Option<&File>) -> FileType {
    match content {
        Some(file) if file.is_socket => FileType::Socket,
        Some(_) => FileType::RegularFile,
        None => FileType::Directory,
    }
}

impl State {
    fn attr(&self, ino: u64) -> Option<FileAttr> {
        let content = self.files.get(&ino)?;
        let size = content.as_ref().map_or(0, |file| file.live.len() as u64);
        let kind = kind_of(content.as_ref());
        let perm = if kind == FileType::Directory { 0o700 } else { 0o600 };
        let time: SystemTime = UNIX_EPOCH;
        Some(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn make(&mut self, parent: INodeNo, name: &OsStr, content: Option<File>) -> FileAttr {
        self.last += 1;
        let ino = self.last;
        self.files.insert(ino, content);
        self.rename_to((parent.0, name.to_owned()), Some(ino));
        self.attr(ino).unwrap()
    }

    fn rename_to(&mut self, place: Place, ino: Option<u64>) {
        let change =
            |place: Place| ino.map_or_else(|| Named::Gone(place.clone()), |ino| Named::Made(place.clone(), ino));
        apply_name(&mut self.names, change(place.clone()));
        self.renamed.push(change(place));
    }

    fn change(&mut self, ino: u64, change: Change) -> Result<(), Errno> {
        let file = self.files.get_mut(&ino).and_then(Option::as_mut).ok_or(Errno::ENOENT)?;
        apply(&mut file.live, &change);
        file.pending.push(change);
        Ok(())
    }

    /// A sync of anything makes all names durable, as a journal's commit does, and one file's content.
    fn sync(&mut self, ino: u64) -> Result<(), Errno> {
        if self.fail_syncs {
            return Err(Errno::EIO);
        }
        for change in self.renamed.drain(..) {
            apply_name(&mut self.synced_names, change);
        }
        if let Some(Some(file)) = self.files.get_mut(&ino) {
            for change in file.pending.drain(..) {
                apply(&mut file.synced, &change);
            }
        }
        Ok(())
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for LossyDisk {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.0.lock().unwrap();
        match state.names.get(&(parent.0, name.to_owned())).and_then(|ino| state.attr(*ino)) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.lock().unwrap().attr(ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.0.lock().unwrap();
        if let Some(size) = size
            && let Err(errno) = state.change(ino.0, Change::Resize(size as usize))
        {
            return reply.error(errno);
        }
        match state.attr(ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let attr = self.0.lock().unwrap().make(parent, name, None);
        reply.entry(&TTL, &attr, Generation(0));
    }

    fn mknod(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let is_socket = rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::Socket;
        let attr = self.0.lock().unwrap().make(parent, name, Some(File { is_socket, ..File::default() }));
        reply.entry(&TTL, &attr, Generation(0));
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let attr = self.0.lock().unwrap().make(parent, name, Some(File::default()));
        reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty());
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.0.lock().unwrap().rename_to((parent.0, name.to_owned()), None);
        reply.ok();
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(req, parent, name, reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock().unwrap();
        let Some(ino) = state.names.get(&(parent.0, name.to_owned())).copied() else {
            return reply.error(Errno::ENOENT);
        };
        state.rename_to((newparent.0, newname.to_owned()), Some(ino));
        state.rename_to((parent.0, name.to_owned()), None);
        reply.ok();
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.0.lock().unwrap();
        let Some(Some(file)) = state.files.get(&ino.0) else { return reply.error(Errno::ENOENT) };
        let from = (offset as usize).min(file.live.len());
        let to = (from + size as usize).min(file.live.len());
        reply.data(&file.live[from..to]);
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let change = Change::Write { offset: offset as usize, data: data.to_vec() };
        match self.0.lock().unwrap().change(ino.0, change) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock().unwrap();
        let Some(Some(file)) = state.files.get(&ino.0) else { return reply.error(Errno::ENOENT) };
        let end = (offset + length) as usize;
        match mode {
            0 if file.live.len() < end => empty(reply, state.change(ino.0, Change::Resize(end))),
            0 => reply.ok(),
            libc::FALLOC_FL_ZERO_RANGE => {
                let change = Change::Write { offset: offset as usize, data: vec![0; length as usize] };
                empty(reply, state.change(ino.0, change));
            }
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(reply, self.0.lock().unwrap().sync(ino.0));
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(reply, self.0.lock().unwrap().sync(ino.0));
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.0.lock().unwrap();
        let entries = state.names.iter().filter(|((parent, _), _)| *parent == ino.0);
        for (n, ((_, name), child)) in entries.enumerate().skip(offset as usize) {
            let kind = kind_of(state.files[child].as_ref());
            if reply.add(INodeNo(*child), n as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
