//! The table of a service's settings, and how a file and the environment are read by it.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Problem, unknown};
use crate::field::{Field, Given, Shown, Written, misshapen};
use crate::origin::{Origin, Origins};
use crate::tree::{self, Content, Entry, Node};

/// A configuration with every comment takes 6 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Names the file.
const CONFIG_VARIABLE: &str = "CONFIG";

/// One setting of the configuration `C`.
pub struct Setting<C> {
    /// `section.name`: its place in the file.
    pub key: &'static str,
    pub field: fn(&mut C) -> Box<dyn Field + '_>,
}

/// All settings of a service.
pub struct Schema<C: 'static> {
    /// Those of a section stand together.
    pub settings: &'static [Setting<C>],
    /// Read if nobody names another one; it may be missing.
    pub default_file: &'static str,
    /// What its variables begin with. Every variable that begins so must be a setting.
    pub prefix: &'static str,
    /// Variables that are no settings and are read elsewhere, without the prefix.
    pub other_variables: &'static [&'static str],
}

/// The settings in force, and who gave those that are not at their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded<C> {
    pub config: C,
    pub origins: Origins,
}

/// The variables of this process, as far as they are text.
#[must_use]
pub fn process_environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    variables.collect()
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
    /// The file that `named` says, or else the variable `..._CONFIG`, or else the default one; and the environment
    /// over it.
    ///
    /// # Errors
    /// A file that was named cannot be read, or a key or value is wrong.
    pub fn load(
        &self,
        named: Option<&Path>,
        environment: Vec<(String, String)>,
    ) -> Result<Loaded<C>, Error>
    where
        C: Default,
    {
        let variable = format!("{}{CONFIG_VARIABLE}", self.prefix);
        let of_environment = environment.iter().find(|(name, _)| *name == variable);
        let named = named.or(of_environment.map(|(_, file)| Path::new(file)));
        let mut loaded = Loaded { config: C::default(), origins: Origins::default() };
        let Loaded { config, origins } = &mut loaded;
        let path = named.unwrap_or(Path::new(self.default_file));
        self.file(config, origins, path, named.is_some())?;
        self.environment(config, origins, environment)?;
        Ok(loaded)
    }

    /// Reads a file over `config`. A missing one changes nothing unless it was asked for by name.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong; `config` is then of no use.
    fn file(
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
    fn environment(
        &self,
        config: &mut C,
        origins: &mut Origins,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Error> {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(self.prefix) else { continue };
            if name == CONFIG_VARIABLE || self.other_variables.contains(&name) {
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
        let others = [CONFIG_VARIABLE].into_iter().chain(self.other_variables.iter().copied());
        others.map(str::to_owned).chain(settings)
    }

    /// For `--help`: what the environment may say.
    pub fn environment_help(&self) -> String {
        let lines: String =
            self.variables().map(|name| format!("\n  {}{name}", self.prefix)).collect();
        format!("Environment (below flags, above the file; lists are separated by commas):{lines}")
    }

    /// Every setting as it is in force: its key, its value, and its origin unless that is the default.
    pub fn show(&self, loaded: &mut Loaded<C>) -> Vec<(&'static str, Shown, Option<Origin>)> {
        let Loaded { config, origins } = loaded;
        let shown = self.settings.iter().map(|setting| {
            (setting.key, (setting.field)(config).show(), origins.of(setting.key).cloned())
        });
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
