//! The table of a service's settings, and how a file and the environment are read by it.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Problem, unknown};
use crate::field::{Field, Given, Written, misshapen};
use crate::origin::{Origin, Origins};
use crate::tree::{self, Content, Entry, Node};

/// A configuration with every comment takes 6 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// One setting of the configuration `C`.
pub struct Setting<C> {
    /// `section.name`: its place in the file.
    pub key: &'static str,
    pub field: fn(&mut C) -> Box<dyn Field + '_>,
}

/// All settings of a service.
pub struct Schema<C: 'static> {
    pub settings: &'static [Setting<C>],
    /// What its variables begin with. Every variable that begins so must be a setting.
    pub prefix: &'static str,
    /// Variables that are no settings and are read elsewhere, without the prefix.
    pub other_variables: &'static [&'static str],
}

impl<C> fmt::Debug for Setting<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)
    }
}

impl<C> fmt::Debug for Schema<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.settings).finish()
    }
}

impl<C> Schema<C> {
    /// Reads a file over `config`. A missing one changes nothing unless it was asked for by name.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong; `config` is then of no use.
    pub fn file(
        &self,
        config: &mut C,
        origins: &mut Origins,
        path: &Path,
        must_exist: bool,
    ) -> Result<(), Error> {
        match text_of(path) {
            Err(Error::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && !must_exist =>
            {
                Ok(())
            }
            text => self.yaml(config, origins, path, &text?),
        }
    }

    /// Reads the text of a file over `config`.
    ///
    /// # Errors
    /// Something in it is wrong; `config` is then of no use.
    pub fn yaml(
        &self,
        config: &mut C,
        origins: &mut Origins,
        path: &Path,
        text: &str,
    ) -> Result<(), Error> {
        let mut reading = Reading { schema: self, config, origins, path };
        tree::parse(text).and_then(|root| reading.section("", &root)).map_err(|wrong| {
            match wrong.at {
                Some(at) => Error::File { path: path.to_owned(), at, problem: wrong.problem },
                None => Error::Together(wrong.problem),
            }
        })
    }

    /// Reads the variables with our prefix over `config`.
    ///
    /// # Errors
    /// One of them is unknown or wrong; `config` is then of no use.
    pub fn environment(
        &self,
        config: &mut C,
        origins: &mut Origins,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Error> {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(self.prefix) else { continue };
            if self.other_variables.contains(&name) {
                continue;
            }
            let setting = self.settings.iter().find(|setting| variable_of(setting.key) == name);
            let result = match setting {
                Some(setting) => {
                    origins.set(setting.key, Origin::Variable(variable.clone()));
                    let given = Given(Written::InEnvironment(&text));
                    (setting.field)(config).set(&given).map_err(|wrong| wrong.problem)
                }
                None => {
                    let known: Vec<_> = self.variables().collect();
                    Err(unknown("setting", name, &known))
                }
            };
            result.map_err(|problem| Error::Environment { variable, problem })?;
        }
        Ok(())
    }

    /// For `--help`: the variables, without the prefix.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let settings = self.settings.iter().map(|setting| variable_of(setting.key));
        self.other_variables.iter().map(|&name| name.to_owned()).chain(settings)
    }

    /// Every setting as it is in force: key, value, origin unless it is the default.
    pub fn show(&self, config: &mut C, origins: &Origins) -> Vec<(&'static str, String, String)> {
        let origin = |key| origins.of(key).map(ToString::to_string).unwrap_or_default();
        let shown = self
            .settings
            .iter()
            .map(|setting| (setting.key, (setting.field)(config).show(), origin(setting.key)));
        shown.collect()
    }

    /// The names that may stand right below `section`, each once.
    fn names_below(&self, section: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for setting in self.settings {
            let Some(rest) = setting.key.strip_prefix(section) else { continue };
            let name = rest.split_once('.').map_or(rest, |(name, _)| name);
            if names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// One file on its way into a configuration.
struct Reading<'a, C: 'static> {
    schema: &'a Schema<C>,
    config: &'a mut C,
    origins: &'a mut Origins,
    path: &'a Path,
}

impl<C> Reading<'_, C> {
    /// `section` is empty or ends with a dot. A key with nothing after it is as if it were not there.
    fn section(&mut self, section: &str, node: &Node) -> Result<(), Problem> {
        match &node.content {
            Content::Nothing => Ok(()),
            Content::Map(entries) => {
                entries.iter().try_for_each(|entry| self.entry(section, entry))
            }
            Content::Text(_) | Content::List(_) => {
                let names = self.schema.names_below(section).join(", ");
                Err(misshapen(node, &format!("a mapping with {names}")))
            }
        }
    }

    fn entry(&mut self, section: &str, entry: &Entry) -> Result<(), Problem> {
        let Entry { key: name, at, value } = entry;
        let key = format!("{section}{name}");
        let is_name = !name.contains('.');
        let setting = self.schema.settings.iter().find(|setting| setting.key == key);
        if let Some(setting) = setting.filter(|_| is_name) {
            if matches!(value.content, Content::Nothing) {
                return Ok(());
            }
            let origin = Origin::File { path: self.path.to_owned(), at: value.at };
            self.origins.set(&key, origin);
            return (setting.field)(self.config).set(&Given(Written::InFile(value)));
        }
        let known = self.schema.names_below(section);
        if is_name && known.contains(name) {
            return self.section(&format!("{key}."), value);
        }
        Err(Problem::at(*at, unknown("key", name, &known)))
    }
}

/// `podman.socket` is `PODMAN_SOCKET`.
fn variable_of(key: &str) -> String {
    key.replace('.', "_").to_ascii_uppercase()
}

fn text_of(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned(), limit_bytes: FILE_BYTES_MAX });
    }
    Ok(text)
}
