//! Reads one of fjall's journals without changing it, and tells a torn end from damage.
//!
//! The layout (fjall 3.1, `journal/entry.rs`; numbers little-endian): a batch is a start (1, count u32, seqno u64), that many
//! items, and an end (3, XXH3-64 of the items u64, `FJL\x03`). An item is a write (2, type u8, compression u8, keyspace u64,
//! key length u16, value length u32, stored length u32, key, value) or a clear (4, keyspace u64). Zeroes follow the last batch.

use crate::record::KEY_BYTES_MAX;
use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};
use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const WRITE: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const PLAIN: u8 = 0;
/// In journals of versions of Roost that left fjall's compression on.
const LZ4: u8 = 1;
const MAGIC: [u8; 4] = *b"FJL\x03";
const START_BYTES: usize = 13;
const END_BYTES: usize = 13;
/// An end, a start and the tag of its first item.
const BOUNDARY_BYTES: usize = END_BYTES + START_BYTES + 1;
const BUFFER_BYTES: usize = 64 * 1024;

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// Offset at which the last batch ends that reads whole, all those before it being whole.
    pub whole_end: u64,
    /// Offset behind the last byte that is not zero; at least `whole_end`.
    pub used_end: u64,
    /// The least seqno a later batch can have.
    pub seqno_next: u64,
    /// What stands between the two offsets.
    pub tail: Tail,
}

/// What stands behind the last whole batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Tail {
    /// Zeroes, or nothing.
    Clean,
    /// A batch that was never finished, so that nobody was told of it.
    Torn,
    /// A batch that was finished and does not read, or several.
    Damaged,
}

/// Reads a journal. `seqno_next` is what the journal before it ended with, 0 for the first: seqnos only ever rise.
///
/// # Errors
/// The file cannot be read.
pub fn scan(file: &File, seqno_next: u64) -> io::Result<Scan> {
    let used_end = used_end(file)?;
    let mut cursor = Cursor::new(file, 0, used_end)?;
    let mut scan = Scan { whole_end: 0, used_end, seqno_next, tail: Tail::Clean };
    // Each turn passes at least a start and an end.
    while scan.whole_end < used_end {
        match batch(&mut cursor, scan.seqno_next)? {
            Found::Whole { seqno } => {
                scan.whole_end = cursor.at;
                scan.seqno_next = seqno.saturating_add(1);
            }
            Found::Cut => {
                scan.tail = Tail::Torn;
                break;
            }
            Found::Short => {
                let last = last_bytes::<END_BYTES>(file, used_end)?;
                scan.tail = if last.is_some_and(|last| is_end(&last)) { Tail::Damaged } else { Tail::Torn };
                break;
            }
            Found::Finished | Found::Foreign => {
                scan.tail = Tail::Damaged;
                break;
            }
            Found::Unfit => {
                scan.tail =
                    if shows_an_end(file, scan.whole_end, used_end)? { Tail::Damaged } else { Tail::Torn };
                break;
            }
        }
    }
    Ok(scan)
}

enum Found {
    Whole {
        seqno: u64,
    },
    /// What is there fits, and the used part ends within a value that is longer.
    Cut,
    /// As before, but so little is missing that a wrong length of a key would explain it.
    Short,
    /// It has an end, or the room of one, and it is not the end of what stands before it.
    Finished,
    /// Something that fjall does not write.
    Unfit,
    /// It begins with what no batch begins with, whether its first byte reached the disk or not.
    Foreign,
}

/// Reads the batch at the cursor.
fn batch(cursor: &mut Cursor, seqno_min: u64) -> io::Result<Found> {
    let Some([tag, rest @ ..]) = cursor.take::<START_BYTES>()? else { return Ok(Found::Short) };
    let count = u32::from_le_bytes(part(&rest, 0));
    let seqno = u64::from_le_bytes(part(&rest, 4));
    if tag != START && tag != 0 {
        return Ok(Found::Foreign);
    }
    if tag != START || count == 0 || seqno < seqno_min {
        return Ok(Found::Unfit);
    }
    let mut hash = Xxh3::new();
    // An item is at least 9 bytes long: the end of the file bounds this.
    for _ in 0..count {
        if let Some(found) = item(cursor, &mut hash)? {
            return Ok(found);
        }
    }
    let Some(end) = cursor.take::<END_BYTES>()? else { return Ok(Found::Short) };
    if is_end(&end) && u64::from_le_bytes(part(&end, 1)) == hash.digest() {
        return Ok(Found::Whole { seqno });
    }
    Ok(Found::Finished)
}

/// Passes one item; says what else was found.
fn item(cursor: &mut Cursor, hash: &mut Xxh3) -> io::Result<Option<Found>> {
    let Some([tag]) = cursor.take::<1>()? else { return Ok(Some(Found::Short)) };
    hash.update(&[tag]);
    if tag == CLEAR {
        return Ok(if cursor.pass(8, hash)? { None } else { Some(Found::Short) });
    }
    if tag != WRITE {
        return Ok(Some(Found::Unfit));
    }
    let Some(head) = cursor.take::<20>()? else { return Ok(Some(Found::Short)) };
    hash.update(&head);
    let (kind, compression) = (head[0], head[1]);
    let key_bytes = u64::from(u16::from_le_bytes(part(&head, 10)));
    let value_bytes = u32::from_le_bytes(part(&head, 12));
    let stored_bytes = u32::from_le_bytes(part(&head, 16));
    // Uncompressed, as all is that this program writes, the two lengths guard each other: a damaged one cannot pass for a cut.
    let is_plain = compression == PLAIN && value_bytes == stored_bytes;
    let is_packed = compression == LZ4;
    if kind > 2 || key_bytes > KEY_BYTES_MAX as u64 || !(is_plain || is_packed) {
        return Ok(Some(Found::Unfit));
    }
    let bytes = key_bytes + u64::from(stored_bytes);
    let missing = bytes.saturating_sub(cursor.end - cursor.at);
    Ok(if cursor.pass(bytes, hash)? {
        None
    } else if is_packed {
        Some(Found::Unfit)
    } else if missing <= KEY_BYTES_MAX as u64 {
        Some(Found::Short)
    } else {
        Some(Found::Cut)
    })
}

fn is_end(bytes: &[u8; END_BYTES]) -> bool {
    bytes[0] == END && bytes[9..] == MAGIC
}

/// Whether a batch was finished in this part: its last bytes are an end, or an end is followed by a start anywhere in it.
fn shows_an_end(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let mut reader = at(file, from)?.take(to - from);
    let mut window = Vec::with_capacity(BUFFER_BYTES + BOUNDARY_BYTES);
    loop {
        let read = reader.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut window)?;
        if window.windows(BOUNDARY_BYTES).any(is_boundary) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(window.last_chunk().is_some_and(is_end));
        }
        // What a boundary across two reads needs of the first.
        window.drain(..window.len().saturating_sub(BOUNDARY_BYTES - 1));
    }
}

fn is_boundary(bytes: &[u8]) -> bool {
    bytes[END_BYTES] == START
        && bytes.first_chunk().is_some_and(is_end)
        && matches!(bytes[BOUNDARY_BYTES - 1], WRITE | CLEAR)
}

/// The offset behind the last byte that is not zero: a new journal is 64 MiB of zeroes.
fn used_end(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut buffer = vec![0; BUFFER_BYTES];
    let zeroes = vec![0; BUFFER_BYTES];
    while end > 0 {
        let from = (end - 1) / BUFFER_BYTES as u64 * BUFFER_BYTES as u64;
        let part = &mut buffer[..(end - from) as usize];
        let mut file = file;
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(part)?;
        // The comparison of whole slices is the fast one.
        if *part != zeroes[..part.len()] {
            let last = part.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            return Ok(from + last as u64);
        }
        end = from;
    }
    Ok(0)
}

/// The bytes before this offset; None if there are fewer.
fn last_bytes<const N: usize>(mut file: &File, end: u64) -> io::Result<Option<[u8; N]>> {
    let Some(from) = end.checked_sub(N as u64) else { return Ok(None) };
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn at(file: &File, offset: u64) -> io::Result<BufReader<&File>> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    reader.seek(SeekFrom::Start(offset))?;
    Ok(reader)
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}

/// A place in the used part of a journal.
struct Cursor<'a> {
    reader: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl<'a> Cursor<'a> {
    fn new(file: &'a File, from: u64, end: u64) -> io::Result<Self> {
        Ok(Self { reader: at(file, from)?, at: from, end })
    }

    /// The next bytes; None where the used part ends before.
    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        if self.end - self.at < N as u64 {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(Some(bytes))
    }

    /// Hashes and passes this many bytes; false where the used part ends before.
    fn pass(&mut self, count: u64, hash: &mut Xxh3) -> io::Result<bool> {
        if self.end - self.at < count {
            return Ok(false);
        }
        let mut left = count as usize;
        let mut buffer = [0; 4096];
        while left > 0 {
            let part = &mut buffer[..left.min(4096)];
            self.reader.read_exact(part)?;
            hash.update(part);
            left -= part.len();
        }
        self.at += count;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{CompressionType, Database, KeyspaceCreateOptions, PersistMode};

    const VALUE_BYTES: usize = 40;

    /// What fjall writes for batches of these values, two writes each; and where each batch ends.
    fn written(values: &[Vec<u8>], compression: CompressionType) -> (Vec<u8>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        let database =
            Database::builder(dir.path()).journal_compression(compression).worker_threads(1).open().unwrap();
        let keyspace = database.keyspace("a", KeyspaceCreateOptions::default).unwrap();
        let mut ends = Vec::new();
        for value in values {
            let mut batch = database.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&keyspace, "key", &value[..]);
            batch.remove(&keyspace, "gone");
            batch.commit().unwrap();
            ends.push(used_end(&File::open(&path).unwrap()).unwrap() as usize);
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(*ends.last().unwrap());
        (bytes, ends)
    }

    fn values(count: u8) -> Vec<Vec<u8>> {
        (0..count).map(|value| vec![b'a' + value; VALUE_BYTES]).collect()
    }

    /// Scans these bytes with a page of zeroes behind.
    fn scanned(bytes: &[u8]) -> Scan {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(bytes.len() as u64 + 4096).unwrap();
        scan(&file, 0).unwrap()
    }

    #[test]
    fn whole_journals_are_clean() {
        for compression in [CompressionType::None, CompressionType::Lz4] {
            let (bytes, ends) = written(&[vec![b'a'; 5000], vec![], vec![b'c'; 200_000]], compression);
            let found = scanned(&bytes);
            assert_eq!((found.tail, found.whole_end), (Tail::Clean, ends[2] as u64));
        }
        assert_eq!(scanned(&[]).tail, Tail::Clean);
    }

    #[test]
    fn a_journal_cut_anywhere_is_torn() {
        let (inner, _) = written(&values(3), CompressionType::None);
        let mut values = values(3);
        // A user may send what looks like batches (only at the very end of a value is it taken for an end).
        values.push([&inner[..], &inner, &[b'x'; KEY_BYTES_MAX + 1]].concat());
        let (bytes, ends) = written(&values, CompressionType::None);
        for cut in 0..=bytes.len() {
            let whole = ends.iter().copied().filter(|&end| end <= cut).max().unwrap_or(0);
            let found = scanned(&bytes[..cut]);
            assert_eq!(found.whole_end, whole as u64, "cut at {cut}");
            assert_eq!(found.tail, if whole == cut { Tail::Clean } else { Tail::Torn }, "cut at {cut}");
        }
    }

    #[test]
    fn a_byte_changed_anywhere_is_damage() {
        let (bytes, ends) = written(&values(4), CompressionType::None);
        let mut damaged = 0;
        for at in 0..bytes.len() {
            let start = ends.iter().copied().filter(|&end| end <= at).max().unwrap_or(0);
            for byte in 0..=255 {
                let mut bytes = bytes.clone();
                if std::mem::replace(&mut bytes[at], byte) == byte {
                    continue;
                }
                let tail = scanned(&bytes).tail;
                // A seqno that still rises has no checksum; an end without its last byte is what a cut leaves.
                let is_seqno = (5..START_BYTES).contains(&(at - start));
                let is_cut = at == bytes.len() - 1 && byte == 0;
                match tail {
                    Tail::Damaged => damaged += 1,
                    Tail::Clean => assert!(is_seqno, "byte {at} became {byte}"),
                    Tail::Torn => assert!(is_cut, "byte {at} became {byte}"),
                }
            }
        }
        assert!(damaged > bytes.len() * 200, "{damaged} of {} bytes", bytes.len());
    }

    #[test]
    fn damage_before_a_torn_end_is_damage() {
        let (bytes, ends) = written(&values(4), CompressionType::None);
        let torn = &bytes[..bytes.len() - 20];
        for at in 0..ends[2] {
            let start = ends.iter().copied().filter(|&end| end <= at).max().unwrap_or(0);
            if !(5..START_BYTES).contains(&(at - start)) {
                let mut bytes = torn.to_vec();
                bytes[at] ^= 0xFF;
                assert_eq!(scanned(&bytes).tail, Tail::Damaged, "byte {at}");
            }
        }
    }

    #[test]
    fn an_unfinished_batch_with_a_hole_is_torn() {
        // A power cut may leave the pages of a batch in any order.
        let mut values = values(3);
        values.push(vec![b'x'; 20_000]);
        let (mut bytes, ends) = written(&values, CompressionType::None);
        bytes.truncate(ends[2] + 16_000);
        bytes[ends[2]..ends[2] + 4096].fill(0);
        let found = scanned(&bytes);
        assert_eq!((found.tail, found.whole_end), (Tail::Torn, ends[2] as u64));
    }
}
