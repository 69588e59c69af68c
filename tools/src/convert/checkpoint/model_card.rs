//! What a checkpoint is called and under which licence it comes.

use anyhow::Result;

use super::files::Files;

/// Longest licence text kept, in characters.
const LONGEST_LICENCE: usize = 80;

/// The name on the hub where `_name_or_path` is one, otherwise that of the checkpoint's directory.
///
/// A path on the machine where the model was saved says nothing elsewhere, so it is not used.
pub fn model_name(files: &Files, name_or_path: Option<&str>) -> String {
    let on_hub = |name: &&str| {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_./".contains(character);
        !name.is_empty() && name.chars().all(plain) && !name.starts_with(['/', '.']) && name.matches('/').count() <= 1
    };
    name_or_path.filter(on_hub).map(str::to_owned).or_else(|| files.name()).unwrap_or_else(|| "unknown".into())
}

/// `license` in the front matter of the model card, otherwise the line of `LICENSE` that names it, otherwise `unknown`.
///
/// # Errors
///
/// If one of the files is there but cannot be read.
pub fn licence(files: &Files) -> Result<String> {
    if let Some(card) = files.open("README.md")?
        && let Some(licence) = licence_in_front_matter(&String::from_utf8_lossy(&card))
    {
        return Ok(shortened(&licence));
    }
    for name in ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"] {
        if let Some(text) = files.open(name)? {
            let text = String::from_utf8_lossy(&text);
            let naming = text.lines().map(str::trim).find(|line| line.to_lowercase().contains("licen"));
            return Ok(format!("see {name}: {}", shortened(naming.unwrap_or_default())));
        }
    }
    Ok("unknown".into())
}

fn licence_in_front_matter(card: &str) -> Option<String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    lines.next().filter(|line| line.trim_end() == "---")?;
    let value = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_LICENCE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names_are_kept_and_paths_are_not() {
        let files = Files::Directory(env!("CARGO_MANIFEST_DIR").into());
        assert_eq!(model_name(&files, Some("google/bert-base")), "google/bert-base");
        for path in ["/home/me/model", "./out", "C:\\model", "a/b/c", ""] {
            assert_eq!(model_name(&files, Some(path)), "tools");
        }
    }

    #[test]
    fn licence_comes_from_the_front_matter_only() {
        assert_eq!(licence_in_front_matter("---\nlanguage: en\nlicense: 'mit'\n---\n# A"), Some("mit".into()));
        assert_eq!(licence_in_front_matter("---\nlanguage: en\n---\nlicense: mit"), None);
        assert_eq!(licence_in_front_matter("license: mit"), None);
    }
}
