//! Pictures that are not given out: those that resemble what the device's owner blocked, by the pack's CLIP.

use super::choose::Chosen;
use super::{GenerationError, Generator, GeneratorOptions};
use crate::packs::{Pack, PackError};

/// The owner's list.
pub(super) struct Concepts {
    texts: Vec<String>,
    /// -1 to 1: from here on a picture resembles a text.
    similarity: f64,
}

impl Concepts {
    /// A list that the pack cannot check is an error: a filter that does not filter is worse than none.
    pub(super) fn new(options: &GeneratorOptions, pack: &Pack) -> Result<Self, PackError> {
        let texts = options.blocked_concepts.clone();
        if !texts.is_empty() {
            pack.image_processor()?;
        }
        Ok(Self { texts, similarity: options.concept_similarity })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

impl Generator {
    /// `chosen` without pictures that resemble a blocked concept.
    pub(super) fn refuse_concepts(&mut self, chosen: Vec<Chosen>) -> Result<Vec<Chosen>, GenerationError> {
        if self.concepts.is_empty() {
            return Ok(chosen);
        }
        let images: Vec<_> = chosen.iter().map(|chosen| &chosen.output.image).collect();
        let texts = self.concepts.texts.clone();
        let similarities = self.scores(&images, &texts)?;
        let mut resembled = None;
        let (mut kept, limit) = (Vec::with_capacity(chosen.len()), self.concepts.similarity);
        for (chosen, row) in chosen.into_iter().zip(similarities.rows()) {
            match row.iter().position(|similarity| f64::from(*similarity) >= limit) {
                Some(concept) => resembled = Some(texts[concept].clone()),
                None => kept.push(chosen),
            }
        }
        match resembled {
            Some(concept) if kept.is_empty() => Err(GenerationError::Blocked { concept }),
            _ => Ok(kept),
        }
    }
}
