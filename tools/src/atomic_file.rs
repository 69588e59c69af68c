//! Writes a file whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Writes to a temporary file in the same directory, flushes it to the disk, and gives it its name only then.
///
/// A link is followed: the file that it points to is replaced.
///
/// # Errors
///
/// If the path names something else than a file, or writing fails (a full disk). The temporary file is then removed, and
/// what was under the path before is still there.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    // As any new file: the umask takes away what it takes away.
    write_with_mode(path, 0o666, write)
}

/// The same, for a file that nobody but its owner may read.
///
/// # Errors
///
/// As [`write_atomically`].
pub fn write_secret(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    write_with_mode(path, 0o600, write)
}

#[cfg_attr(not(unix), allow(unused_variables))]
fn write_with_mode(path: &Path, mode: u32, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    ensure!(!path.exists() || path.is_file(), "cannot write {}: it exists and is not a file", path.display());
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mbert-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    // The name of the temporary file would only confuse.
    let temporary = builder.tempfile_in(directory).map_err(|error| error.kind().into());
    let written = temporary.and_then(|temporary| {
        let mut buffered = BufWriter::new(temporary.as_file());
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        temporary.as_file().sync_all()?;
        temporary.persist(&target).map_err(|failed| failed.error)
    });
    match written {
        Ok(_) => Ok(()),
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "the disk is full; free some space or write elsewhere"
                }
                ErrorKind::NotFound => "the directory does not exist; make it first",
                ErrorKind::PermissionDenied => "the directory may not be written to",
                _ => "nothing was written",
            };
            Err(error).with_context(|| format!("cannot write {}: {advice}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.mbert");
        std::fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(&[0; 100_000])?;
            Err(ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        write_atomically(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn places_that_are_no_file_are_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_atomically(dir.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("not a file"), "{error}");
        let error = write_atomically(&dir.path().join("absent/out"), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
