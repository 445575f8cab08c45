//! Profiles by name: those of known products, from a table compiled in, and the owner's from the configuration.

use std::sync::LazyLock;

use super::options::OptionError;
use super::profile::Profile;
use crate::jobs::nearest::nearest;

/// The products, each with a name and the options that differ.
const TABLE: &str = include_str!("profiles.toml");

static BUILTIN: LazyLock<Profiles> = LazyLock::new(|| {
    let table: toml::Table = TABLE.parse().expect("profiles.toml is TOML: a test reads it");
    let mut profiles = Profiles { all: Vec::new() };
    for entry in table["profile"].as_array().into_iter().flatten().filter_map(toml::Value::as_table) {
        let options = entry.iter().map(|(option, value)| match value {
            toml::Value::String(text) => (option.clone(), text.clone()),
            other => (option.clone(), other.to_string()),
        });
        let (name, options): (Vec<_>, Vec<_>) = options.partition(|(option, _)| option == "name");
        profiles.add(&name[0].1, options).expect("profiles.toml has known options: a test reads it");
    }
    profiles
});

/// Profiles in the order of the table, the owner's behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiles {
    all: Vec<Profile>,
}

/// Nobody has a profile of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no profile is called {name:?}; {hint}")]
pub struct UnknownProfile {
    /// The name that was given.
    pub name: String,
    /// What may have been meant.
    pub hint: String,
}

impl Profiles {
    /// Those of known products.
    pub fn builtin() -> Self {
        BUILTIN.clone()
    }

    /// Adds the profile `name`, in place of one that has the name: PNG of the picture as it is, changed by `options` in their
    /// order. `like` among them, wherever it stands, begins with a profile that is there.
    ///
    /// # Errors
    /// Every option that is wrong, or what does not go together; nothing was added then.
    pub fn add(
        &mut self,
        name: &str,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Vec<(String, OptionError)>> {
        let options: Vec<(String, String)> = options.into_iter().collect();
        let mut wrong = Vec::new();
        let mut profile = Profile::plain(name);
        if let Some((_, like)) = options.iter().find(|(option, _)| option == "like") {
            match self.get(like) {
                Ok(model) => profile = Profile { name: name.to_owned(), ..model.clone() },
                Err(error) => wrong.push(("like".to_owned(), OptionError::Together(error.to_string()))),
            }
        }
        for (option, value) in options.iter().filter(|(option, _)| option != "like") {
            if let Err(error) = profile.set(option, value) {
                wrong.push((option.clone(), error));
            }
        }
        if wrong.is_empty()
            && let Err(error) = profile.check()
        {
            wrong.push(("encoding".to_owned(), error));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        match self.all.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = profile,
            None => self.all.push(profile),
        }
        Ok(())
    }

    /// The one of this name.
    ///
    /// # Errors
    /// With the nearest name that there is.
    pub fn get(&self, name: &str) -> Result<&Profile, UnknownProfile> {
        self.all.iter().find(|profile| profile.name == name).ok_or_else(|| UnknownProfile {
            name: name.to_owned(),
            hint: match nearest(name, self.all.iter().map(|profile| profile.name.as_str())) {
                Some(near) => format!("did you mean {near:?}? `easeld profiles` lists all"),
                None => "`easeld profiles` lists all".to_owned(),
            },
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Profile> {
        self.all.iter()
    }
}

/// Whether `name` can be a level of a topic and of a URL: 1 to 64 of `A-Z a-z 0-9 _ -`, not `meta`.
pub fn is_profile_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(plain) && name != "meta"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        let profiles = Profiles::builtin();
        assert!(profiles.iter().len() >= 25, "{}", profiles.iter().len());
        for profile in profiles.iter() {
            let name = &profile.name;
            assert!(is_profile_name(name), "{name}");
            assert!(!profile.title.is_empty() && !profile.source.is_empty(), "{name}");
        }
    }

    #[test]
    fn own_profiles_build_on_others() {
        let mut profiles = Profiles::builtin();
        let options = |texts: &[(&str, &str)]| {
            texts.iter().map(|(one, two)| ((*one).to_owned(), (*two).to_owned())).collect::<Vec<_>>()
        };
        let own = options(&[("rotation", "180"), ("like", "waveshare-7in3-e6")]);
        profiles.add("kitchen", own).expect("valid");
        let kitchen = profiles.get("kitchen").expect("just added");
        assert_eq!((kitchen.rotation, kitchen.width), (180, 800));
        let wrong = options(&[("like", "waveshare-7in3-e5"), ("dither", "floyd"), ("widht", "3")]);
        let wrong = profiles.add("hall", wrong).expect_err("three mistakes");
        assert_eq!(wrong.len(), 3);
        assert!(wrong[0].1.to_string().contains("waveshare-7in3-e6"), "{}", wrong[0].1);
        assert!(profiles.get("hall").is_err());
    }
}
