//! Which release goes to which host, and how it gets into a tar stream.
//!
//! What the user names may be a release (folder or tarball), or a folder with several, for boards with
//! different processors. Named nothing, it is the release of this machine. Its checksums are looked at on
//! the host, by `install.sh`: what counts is what has arrived there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{facts::architecture, trouble::Trouble};
use crate::failure::{Exit, Failure};

/// Where `install.sh` puts the release in use on this machine.
const OWN: [&str; 2] = ["/opt/piccolo/current", "/var/lib/piccolo/current"];
/// Releases in one folder.
const RELEASES_MAX: usize = 64;
const NEEDED: [&str; 3] = ["install.sh", "system_check.sh", "RELEASE"];

/// One release, complete as far as its own list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub folder: PathBuf,
    pub version: String,
    pub arch: String,
    /// Of `SHA256SUMS`: the same release has the same.
    pub digest: String,
    files: Vec<String>,
}

/// A release as it goes to hosts.
#[derive(Debug, Clone)]
pub struct Parcel {
    pub release: Release,
    pub tarball: PathBuf,
    pub bytes: u64,
}

/// One for each processor.
pub type Releases = BTreeMap<String, Release>;

/// # Errors
/// There is none, one is not complete, or two are for the same processor.
pub async fn find(named: &[PathBuf], workshop: &Path) -> Result<Releases, Failure> {
    let mut found = Vec::new();
    if named.is_empty() {
        found.push(own().await?);
    }
    for path in named {
        found.extend(at(path, workshop).await?);
    }
    let mut releases = Releases::new();
    for release in found {
        let arch = release.arch.clone();
        match releases.get(&arch) {
            Some(other) if other.digest != release.digest => {
                return Err(Failure::usage(format!("there are two releases for {arch}"))
                    .cause(format!("{} and {}", other.version, release.version))
                    .help("name with --release the one that you mean"));
            }
            Some(_) => {}
            None => drop(releases.insert(arch, release)),
        }
    }
    Ok(releases)
}

async fn own() -> Result<Release, Failure> {
    let missing = |why: String| {
        Failure::new(Exit::NotFound, "there is no release to deploy").cause(why).help(
            "name one with --release: a release's folder or tarball, or a folder with several",
        )
    };
    let Some(folder) = OWN.iter().map(Path::new).find(|folder| folder.exists()) else {
        return Err(missing(format!("nothing is installed here: no {}", OWN.join(", no "))));
    };
    open(folder)
        .await
        .map_err(|why| missing(format!("{} is not complete: {why}", folder.display())))
}

/// A release, or all in a folder.
async fn at(path: &Path, workshop: &Path) -> Result<Vec<Release>, Failure> {
    let wrong = |path: &Path, why: String| {
        let exit = if path.exists() { Exit::Failed } else { Exit::NotFound };
        Failure::new(exit, format!("{} is no release", path.display())).cause(why)
    };
    if path.is_file() || path.join("RELEASE").exists() {
        return one(path, workshop).await.map(|one| vec![one]).map_err(|why| wrong(path, why));
    }
    let entries = fs::read_dir(path).map_err(|error| wrong(path, error.to_string()))?;
    let mut inside: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("RELEASE").is_file() || is_tarball(path))
        .collect();
    // A folder goes before the tarball of the same: it need not be unpacked.
    let is_same = |tarball: &Path, folders: &[PathBuf]| {
        let text = tarball.to_string_lossy();
        folders.iter().any(|folder| text.strip_suffix(".tar.gz") == folder.to_str())
    };
    let all = inside.clone();
    inside.retain(|path| !is_same(path, &all));
    inside.sort();
    if inside.is_empty() || inside.len() > RELEASES_MAX {
        let why = format!("expected 1 to {RELEASES_MAX} releases in it, found {}", inside.len());
        return Err(wrong(path, why));
    }
    let mut releases = Vec::new();
    for path in inside {
        releases.push(one(&path, workshop).await.map_err(|why| wrong(&path, why))?);
    }
    Ok(releases)
}

fn is_tarball(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_file() && name.starts_with("piccolo-") && name.ends_with(".tar.gz")
}

async fn one(path: &Path, workshop: &Path) -> Result<Release, String> {
    if path.is_dir() {
        return open(path).await;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().replace(".tar.gz", "");
    let folder = workshop.join(format!("unpacked-{name}"));
    fs::create_dir(&folder).map_err(|error| error.to_string())?;
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "--strip-components=1", "-xzf"]).arg(path).arg("-C").arg(&folder);
    answer(&mut tar, "").await?;
    open(&folder).await
}

/// Reads what a release says of itself, and sees that all of it is there.
async fn open(folder: &Path) -> Result<Release, String> {
    let read = |name: &str| {
        fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"))
    };
    let (about, sums) = (read("RELEASE")?, read("SHA256SUMS")?);
    let setting = |key: &str| {
        let value = about.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.filter(|value| !value.is_empty()).ok_or_else(|| format!("RELEASE has no {key}"))
    };
    let mut files = Vec::new();
    for line in sums.lines() {
        let file = line.split_once("  ").map(|(_, file)| file).unwrap_or_default();
        let is_plain = !file.is_empty()
            && !file.starts_with(['/', '-'])
            && !file.split('/').any(|part| part == "..");
        if !is_plain {
            return Err(format!("SHA256SUMS has a line that makes no sense: {line}"));
        }
        if !folder.join(file).is_file() {
            return Err(format!("{file} is missing"));
        }
        files.push(file.to_owned());
    }
    if let Some(missing) = NEEDED.iter().find(|needed| !files.iter().any(|file| file == *needed)) {
        return Err(format!("SHA256SUMS does not name {missing}"));
    }
    files.push("SHA256SUMS".to_owned());
    let digest = answer(&mut Command::new("sha256sum"), &sums).await?;
    Ok(Release {
        folder: folder.to_owned(),
        version: setting("version")?.to_owned(),
        arch: setting("arch")?.to_owned(),
        digest: digest.split_whitespace().next().unwrap_or_default().to_owned(),
        files,
    })
}

/// Makes the tarball that goes to hosts, for each release once.
///
/// # Errors
/// They cannot be written.
pub async fn pack(releases: &Releases, workshop: &Path) -> Result<Vec<Parcel>, Failure> {
    let mut parcels = Vec::new();
    for release in releases.values() {
        let tarball = workshop.join(format!("{}.tar.gz", release.arch));
        tar(&release.folder, &release.files, &tarball).await.map_err(|why| {
            Failure::failed(format!("release {} cannot be packed", release.version)).cause(why)
        })?;
        let bytes = fs::metadata(&tarball).map_or(0, |data| data.len());
        parcels.push(Parcel { release: release.clone(), tarball, bytes });
    }
    Ok(parcels)
}

/// Packed fast rather than small: networks of boards are quicker than processors of today.
async fn tar(folder: &Path, files: &[String], tarball: &Path) -> Result<(), String> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder).args(["--dereference", "--use-compress-program=gzip -1", "-cf"]);
    tar.arg(tarball).args(["-T", "-"]);
    answer(&mut tar, &files.iter().map(|file| format!("{file}\n")).collect::<String>())
        .await
        .map(drop)
}

/// What a program of this machine prints, if it succeeds.
async fn answer(command: &mut Command, input: &str) -> Result<String, String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // Who does not want it says so by its exit code.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The parcel for a processor.
///
/// # Errors
/// There is none, and which there are.
pub fn pick<'p>(parcels: &'p [Parcel], arch: &str) -> Result<&'p Parcel, Trouble> {
    let found = parcels.iter().find(|parcel| architecture(&parcel.release.arch) == arch);
    found.ok_or_else(|| {
        let there: Vec<_> = parcels.iter().map(|parcel| parcel.release.arch.as_str()).collect();
        Trouble::new(format!("it is {arch}, and the release is for {}", there.join(", "))).help(
            format!("add --release piccolo-VERSION-{arch}.tar.gz (cargo xtask dist makes one)"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(into: &Path, arch: &str, version: &str) -> PathBuf {
        let folder = into.join(format!("piccolo-{version}-{arch}"));
        fs::create_dir_all(&folder).unwrap();
        let mut sums = String::new();
        for name in ["install.sh", "system_check.sh", "findings.sh", "RELEASE"] {
            fs::write(folder.join(name), format!("version={version}\narch={arch}\n")).unwrap();
            sums.push_str(&format!("{}  {name}\n", "0".repeat(64)));
        }
        fs::write(folder.join("SHA256SUMS"), sums).unwrap();
        folder
    }

    async fn found(named: &[&Path], workshop: &Path) -> Result<Vec<String>, Failure> {
        let named: Vec<_> = named.iter().map(|path| path.to_path_buf()).collect();
        let releases = find(&named, workshop).await?;
        Ok(releases.values().map(|one| format!("{} {}", one.arch, one.version)).collect())
    }

    #[tokio::test]
    async fn a_release_is_found_by_itself_in_a_folder_of_several_and_in_a_tarball() {
        let (place, workshop) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = place.path();
        let arm = release(place, "aarch64", "0.2.0");
        let intel = release(place, "x86_64", "0.2.0");
        assert_eq!(found(&[&arm], workshop.path()).await.unwrap(), ["aarch64 0.2.0"]);
        let both = ["aarch64 0.2.0", "x86_64 0.2.0"];
        assert_eq!(found(&[place], workshop.path()).await.unwrap(), both);
        assert_eq!(found(&[&arm, &intel], workshop.path()).await.unwrap(), both);
        let tarball = place.join("piccolo-0.2.0-x86_64.tar.gz");
        let packed = std::process::Command::new("tar")
            .arg("-C")
            .arg(place)
            .arg("-czf")
            .arg(&tarball)
            .arg("piccolo-0.2.0-x86_64")
            .status();
        assert!(packed.unwrap().success());
        assert_eq!(found(&[&tarball], workshop.path()).await.unwrap(), ["x86_64 0.2.0"]);
        assert_eq!(found(&[place], workshop.path()).await.unwrap(), both);
    }

    #[tokio::test]
    async fn what_is_no_whole_release_is_refused() {
        let (place, workshop) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let whole = release(place.path(), "x86_64", "0.2.0");
        let refuse = async |named: &[&Path], part: &str| {
            let failure = found(named, workshop.path()).await.unwrap_err();
            assert!(failure.to_string().contains(part), "{failure}");
        };
        refuse(&[&place.path().join("nowhere")], "No such file").await;
        fs::write(whole.join("SHA256SUMS"), "0  ../install.sh\n").unwrap();
        refuse(&[&whole], "makes no sense").await;
        fs::write(whole.join("SHA256SUMS"), "0  bin/piccolo\n").unwrap();
        refuse(&[&whole], "bin/piccolo is missing").await;
        fs::write(whole.join("SHA256SUMS"), "0  install.sh\n").unwrap();
        refuse(&[&whole], "does not name system_check.sh").await;
        let (one, other) =
            (release(place.path(), "x86_64", "1.0"), release(place.path(), "x86_64", "2.0"));
        fs::write(
            one.join("SHA256SUMS"),
            fs::read_to_string(other.join("SHA256SUMS")).unwrap() + "\n",
        )
        .unwrap();
        refuse(&[&other, &place.path().join("x")], "No such file").await;
    }

    #[tokio::test]
    async fn each_processor_gets_its_own() {
        let (place, workshop) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let arm = release(place.path(), "armv7", "0.2.0");
        let releases = find(&[arm], workshop.path()).await.unwrap();
        let parcels = pack(&releases, workshop.path()).await.unwrap();
        assert_eq!(pick(&parcels, architecture("armv7l")).unwrap().release.version, "0.2.0");
        let trouble = pick(&parcels, "riscv64").unwrap_err();
        assert!(
            trouble.said.contains("it is riscv64, and the release is for armv7"),
            "{trouble:?}"
        );
    }
}
