//! `--grid`: one or two fields take several values each, and a labelled contact sheet shows them all.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail};

use super::tasks::Task;
use crate::diffusion::request::RawRequest;
use crate::display;
use crate::generator::Generator;

/// A field and the values it takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    field: Field,
    values: Vec<String>,
}

/// Fields that a grid can vary.
#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Field {
    Prompt,
    NegativePrompt,
    Preset,
    Seed,
    VariationSeed,
    VariationStrength,
    Strength,
    Steps,
    GuidanceScale,
    GuidanceRescale,
    GuidanceStart,
    GuidanceStop,
    CacheInterval,
    Scheduler,
    VaeDecoder,
}

impl FromStr for Axis {
    type Err = String;

    /// `FIELD=VALUE,VALUE,...`; values are as the field's own option takes them.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) =
            text.split_once('=').ok_or_else(|| format!("'{text}' is not FIELD=VALUE,VALUE,..."))?;
        let field = <Field as clap::ValueEnum>::from_str(name.trim(), false).map_err(|_| {
            let known = <Field as clap::ValueEnum>::value_variants().iter();
            let known: Vec<String> = known.map(Field::name).collect();
            format!("'{name}' cannot be varied; one of {}", known.join(", "))
        })?;
        let axis = Self { field, values: values.split(',').map(|value| value.trim().to_owned()).collect() };
        // Every value is read once, so that the last picture of an hour does not fail on a slip.
        axis.values.iter().try_for_each(|value| field.set(&mut RawRequest::default(), value))?;
        Ok(axis)
    }
}

impl Field {
    fn name(&self) -> String {
        clap::ValueEnum::to_possible_value(self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn set(self, raw: &mut RawRequest, value: &str) -> Result<(), String> {
        fn read<T: FromStr>(field: Field, value: &str) -> Result<Option<T>, String> {
            value.parse().map(Some).map_err(|_| format!("{}: '{value}' is not a number", field.name()))
        }
        let text = || Some(value.to_owned());
        match self {
            Self::Prompt => value.clone_into(&mut raw.prompt),
            Self::NegativePrompt => raw.negative_prompt = text(),
            Self::Preset => raw.preset = text(),
            Self::Seed => raw.seed = read(self, value)?,
            Self::VariationSeed => raw.variation_seed = read(self, value)?,
            Self::VariationStrength => raw.variation_strength = read(self, value)?,
            Self::Strength => raw.strength = read(self, value)?,
            Self::Steps => raw.steps = read(self, value)?,
            Self::GuidanceScale => raw.guidance_scale = read(self, value)?,
            Self::GuidanceRescale => raw.guidance_rescale = read(self, value)?,
            Self::GuidanceStart => raw.guidance_start = read(self, value)?,
            Self::GuidanceStop => raw.guidance_stop = read(self, value)?,
            Self::CacheInterval => raw.cache_interval = read(self, value)?,
            Self::Scheduler => raw.scheduler = text(),
            Self::VaeDecoder => raw.vae_decoder = text(),
        }
        Ok(())
    }
}

impl Axis {
    fn labels(&self) -> Vec<String> {
        // The first says what it is of.
        let name = self.field.name();
        let labelled = |(index, value): (usize, &String)| match index {
            0 => format!("{name} {value}"),
            _ => value.clone(),
        };
        self.values.iter().enumerate().map(labelled).collect()
    }
}

/// The requests of all cells, row by row; the first axis runs across, the second down.
pub(super) fn cells(base: &RawRequest, axes: &[Axis]) -> anyhow::Result<Vec<RawRequest>> {
    let [across, rest @ ..] = axes else { bail!("--grid: needs FIELD=VALUE,VALUE,...") };
    if rest.first().is_some_and(|down| down.field == across.field) {
        bail!("--grid: '{}' stands on both axes", across.field.name());
    }
    let rows: Vec<Option<&String>> =
        rest.first().map_or_else(|| vec![None], |down| down.values.iter().map(Some).collect());
    let mut cells = Vec::new();
    for row in rows {
        for column in &across.values {
            let mut raw = base.clone();
            let down = rest.first().zip(row);
            let set = across.field.set(&mut raw, column);
            let set = set.and_then(|()| down.map_or(Ok(()), |(down, value)| down.field.set(&mut raw, value)));
            set.map_err(anyhow::Error::msg)?;
            cells.push(raw);
        }
    }
    Ok(cells)
}

/// Makes every cell and writes the sheet to `out`.
pub(super) fn write(
    generator: &mut Generator,
    tasks: &[Task],
    axes: &[Axis],
    out: &Path,
    mut make: impl FnMut(&mut Generator, &Task) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<()> {
    let pictures = tasks
        .iter()
        .map(|task| Ok(display::read_picture(&make(generator, task)?)?))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let labels = |axis: Option<&Axis>| axis.map(Axis::labels).unwrap_or_default();
    let sheet = display::contact_sheet(&pictures, &labels(axes.first()), &labels(axes.get(1)));
    let png = display::encode_png(&sheet, &[])?;
    fs::write(out, png).with_context(|| format!("cannot write {}", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_read_and_refused_by_name() {
        let axis: Axis = "steps=1, 2,4".parse().expect("an axis");
        assert_eq!(axis.labels(), ["steps 1", "2", "4"]);
        let names: Axis = "scheduler=ddim,dpmpp-2m".parse().expect("an axis");
        let base = RawRequest { prompt: "a fox".to_owned(), ..RawRequest::default() };
        let cells = cells(&base, &[axis, names]).expect("six cells");
        let seen: Vec<_> =
            cells.iter().map(|raw| (raw.steps, raw.scheduler.clone().unwrap_or_default())).collect();
        assert_eq!(seen.len(), 6);
        assert_eq!((seen[1].0, seen[1].1.as_str()), (Some(2), "ddim"));
        assert_eq!((seen[3].0, seen[3].1.as_str()), (Some(1), "dpmpp-2m"));
        for (text, part) in [("steps", "FIELD=VALUE"), ("width=1,2", "cannot be varied"), ("seed=a", "'a'")] {
            let error = text.parse::<Axis>().expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
