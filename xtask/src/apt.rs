//! Debian packages fetched without touching the system: a private APT state below `target/`.
//!
//! The mirror comes from the machine's own APT configuration and the signatures are checked with Debian's
//! archive keyring; `apt-get` verifies every file against the signed lists. Nothing is installed.

use crate::util::{output, run_quiet, say, target_sub};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// How long fetched package lists are believed to be current.
const LISTS_FRESH: Duration = Duration::from_secs(24 * 3600);

/// One Debian suite, seen through a private APT.
pub struct Apt {
    suite: &'static str,
    dir: PathBuf,
}

impl Apt {
    /// Sets up (once) the private state for `suite` and fetches its lists unless they are fresh.
    pub fn open(suite: &'static str) -> Result<Apt> {
        let apt = Apt { suite, dir: target_sub(&format!("apt/{suite}"))? };
        if apt.lists_are_fresh() {
            return Ok(apt);
        }
        for sub in ["etc", "state/lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(apt.dir.join(sub))?;
        }
        std::fs::write(apt.dir.join("etc/sources.list"), source_line(suite)? + "\n")?;
        say(format_args!("fetching Debian's package lists of {suite}"));
        run_quiet(apt.command("apt-get").args(["-qq", "update"]))?;
        std::fs::write(apt.stamp(), "")?;
        Ok(apt)
    }

    /// The `Depends` of the newest version of a package.
    pub fn depends(&self, package: &str) -> Result<String> {
        self.field(package, "Depends: ", |_| true).map(|(_, value)| value)
    }

    /// The newest version of a package that `accept` likes.
    pub fn version(&self, package: &str, accept: impl Fn(&str) -> bool) -> Result<String> {
        self.field(package, "Version: ", accept).map(|(version, _)| version)
    }

    /// Downloads one version of a package and unpacks it into `into` (which is replaced).
    pub fn unpack(&self, package: &str, version: &str, into: &Path) -> Result<()> {
        let downloads = self.dir.join("cache");
        say(format_args!("fetching Debian's {package} {version}"));
        run_quiet(
            self.command("apt-get")
                .args(["-qq", "download", &format!("{package}={version}")])
                .current_dir(&downloads),
        )?;
        let prefix = format!("{package}_");
        let file = std::fs::read_dir(&downloads)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
            .with_context(|| format!("{package} was downloaded but is not there"))?;
        if into.exists() {
            std::fs::remove_dir_all(into)?;
        }
        std::fs::create_dir_all(into)?;
        run_quiet(Command::new("dpkg-deb").arg("-x").arg(&file).arg(into))?;
        std::fs::remove_file(file)?;
        Ok(())
    }

    /// The file of a package's newest version, downloaded unless it is there.
    pub fn download(&self, package: &str) -> Result<PathBuf> {
        let downloads = self.dir.join("packages");
        std::fs::create_dir_all(&downloads)?;
        let version = self.version(package, |_| true)?;
        // As apt-get names it: a colon of the version is written as %3a.
        let prefix = format!("{package}_{}_", version.replace(':', "%3a"));
        let there = || -> Result<Option<PathBuf>> {
            let mut entries = std::fs::read_dir(&downloads)?.flatten().map(|entry| entry.path());
            Ok(entries.find(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            }))
        };
        if let Some(file) = there()? {
            return Ok(file);
        }
        say(format_args!("fetching Debian's {package} {version}"));
        let wanted = format!("{package}={version}");
        run_quiet(self.command("apt-get").args(["-qq", "download", &wanted]).current_dir(&downloads))?;
        there()?.with_context(|| format!("{package} was downloaded but is not there"))
    }

    /// (version, value of `field`) of the first stanza, newest first, whose version is accepted.
    fn field(&self, package: &str, field: &str, accept: impl Fn(&str) -> bool) -> Result<(String, String)> {
        let text = output(self.command("apt-cache").args(["show", package]))?;
        for stanza in text.split("\n\n") {
            let value =
                |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(version), Some(value)) = (value("Version: "), value(field))
                && accept(&version)
            {
                return Ok((version, value));
            }
        }
        bail!("Debian {} has no fitting {package}", self.suite)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, sub: &str| format!("{name}={}", self.dir.join(sub).display());
        for setting in [
            option("Dir::State", "state"),
            option("Dir::State::Lists", "state/lists"),
            option("Dir::Cache", "cache"),
            option("Dir::Etc::SourceList", "etc/sources.list"),
            option("Dir::Etc::Preferences", "etc/preferences"),
            "Dir::State::status=/dev/null".to_owned(),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(setting);
        }
        command
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }

    fn lists_are_fresh(&self) -> bool {
        let modified = std::fs::metadata(self.stamp()).and_then(|data| data.modified());
        modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < LISTS_FRESH))
    }
}

/// The line of `sources.list` for a suite of Debian.
pub fn source_line(suite: &str) -> Result<String> {
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    Ok(format!("deb [arch=amd64 signed-by={keyring}] {} {suite} main", mirror()?))
}

/// The Debian mirror that this machine's own APT uses.
fn mirror() -> Result<String> {
    for tool in ["apt-get", "dpkg-deb"] {
        if !crate::util::have(tool) {
            bail!("this needs Debian's `{tool}` (packages apt and dpkg)");
        }
    }
    let format = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let uris = output(Command::new("apt-get").args(format))?;
    uris.lines()
        .map(|uri| uri.trim_end_matches('/'))
        .find(|uri| uri.ends_with("/debian"))
        .map(str::to_owned)
        .context("no Debian mirror in this machine's APT sources")
}
