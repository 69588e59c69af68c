//! Chemistry for a model that reads reactions: SMILES made from a seed, and their token ids.
//!
//! Textbook couplings over lists of fragments, written as the golden inputs are: starting materials and reagents, `>>`,
//! product, with one token masked.

use std::collections::HashMap;

use mbert::golden::Ids;

use crate::splitmix64;

/// What stands at `{}` is named by the reaction.
const CORES: [&str; 24] = [
    "c1ccc({})cc1",
    "Cc1ccc({})cc1",
    "COc1ccc({})cc1",
    "Fc1ccc({})cc1",
    "O=[N+]([O-])c1ccc({})cc1",
    "N#Cc1ccc({})cc1",
    "Cc1cccc({})c1",
    "COc1cccc({})c1F",
    "FC(F)(F)c1ccc({})cc1",
    "Clc1cc(Cl)cc({})c1",
    "CC(C)(C)c1ccc({})cc1",
    "c1ccc2cc({})ccc2c1",
    "c1cncc({})c1",
    "Cc1ccc({})cn1",
    "c1ccc2[nH]c({})cc2c1",
    "Cc1nc({})sc1C",
    "c1coc({})c1",
    "Cn1cc({})cn1",
    "c1ccc(Oc2ccc({})cc2)cc1",
    "CCOC(=O)c1ccc({})cc1",
    "CS(=O)(=O)c1ccc({})cc1",
    "c1ccc(CCCC{})cc1",
    "C1CCC({})CC1",
    "CC(C)(C)OC(=O)N1CCC({})CC1",
];
const AMINO_ACIDS: [&str; 6] = [
    "C[C@H](NC(=O)OC(C)(C)C){}",
    "CC(C)[C@H](NC(=O)OC(C)(C)C){}",
    "CC(C)(C)OC(=O)N[C@@H](Cc1ccccc1){}",
    "CC(C)C[C@H](NC(=O)OCc1ccccc1){}",
    "CC(C)(C)OC(=O)N1CCC[C@H]1{}",
    "CSCC[C@H](NC(=O)OC(C)(C)C){}",
];
const AMINES: [&str; 18] = [
    "NCc1ccccc1",
    "Nc1ccc(F)cc1",
    "N1CCOCC1",
    "N1CCN(C)CC1",
    "NC1CCCCC1",
    "NCCO",
    "N(C)CCc1ccccc1",
    "Nc1cccc(Br)c1",
    "N[C@@H](C)c1ccccc1",
    "NCC(=O)OCC",
    "N1CCCC1",
    "NCCN1CCOCC1",
    "Nc1ccc2c(c1)OCO2",
    "NC(C)(C)C",
    "Nc1nccs1",
    "N1CCN(c2ccccc2OC)CC1",
    "N[C@@H](CC(C)C)C(=O)OC",
    "NCc1ccncc1",
];
const ALCOHOLS: [&str; 10] =
    ["OC", "OCC", "OC(C)C", "OCc1ccccc1", "OCCN(C)C", "OC1CCCC1", "OCCOC", "OCC#C", "OC[C@@H]1CCCO1", "OCC=C"];
const ARYLS: [&str; 10] = [
    "c1ccccc1",
    "c1ccc(F)cc1",
    "c1ccncc1",
    "c1cccc(C#N)c1",
    "c1ccc(OC)cc1",
    "c1ccsc1",
    "c1cnn(C)c1",
    "c1ccc2ccccc2c1",
    "c1ccc(C(F)(F)F)cc1",
    "c1ccc(Cl)c(Cl)c1",
];
const ALKYLS: [&str; 8] = ["CC", "CCCC", "Cc1ccccc1", "CC=C", "CC(=O)OCC", "CCN1CCOCC1", "CC1CC1", "Cc1ccc(Cl)cc1"];
const COUPLING_REAGENTS: [&str; 3] = [
    "CCN=C=NCCCN(C)C.CN(C)C=O.Cl.On1nnc2ccccc21",
    "CCN(C(C)C)C(C)C.CN(C)C(On1nnc2cccnc21)=[N+](C)C.F[P-](F)(F)(F)(F)F",
    "C1CCC(N=C=NC2CCCCC2)CC1.CN(C)c1ccncc1.ClCCl",
];
const SUZUKI_REAGENTS: [&str; 3] = [
    "C1COCCO1.O.O=C([O-])[O-].[K+].[K+].c1ccc(P(c2ccccc2)c2ccccc2)cc1.[Pd]",
    "COCCOC.O=C([O-])[O-].[Na+].[Na+].[Pd+2]",
    "CC(=O)[O-].CC(=O)[O-].CCO.Cc1ccccc1.O=P([O-])([O-])[O-].[K+].[K+].[K+].[Pd+2]",
];

/// Draws one number after the other.
struct Draw {
    seed: u64,
    count: u64,
}

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.count += 1;
        (splitmix64(self.seed, self.count) % n as u64) as usize
    }

    fn from<'s>(&mut self, list: &[&'s str]) -> &'s str {
        list[self.below(list.len())]
    }
}

/// Puts a group, written from its attachment on, in the place of `{}`; its rings get numbers that are free there.
fn attach(core: &str, group: &str) -> String {
    let (before, after) = core.split_once("{}").expect("a core has a place for a group");
    let mut open = Vec::new();
    for digit in ring_digits(before) {
        match open.iter().position(|&other| other == digit) {
            Some(at) => drop(open.remove(at)),
            None => open.push(digit),
        }
    }
    let shift = open.into_iter().max().unwrap_or(0);
    let mut shifted = String::new();
    for (token, is_ring) in tokens(group) {
        match is_ring {
            true => shifted += &(token.parse::<u32>().expect("a digit") + shift).to_string(),
            false => shifted += token,
        }
    }
    format!("{before}{shifted}{after}")
}

fn ring_digits(smiles: &str) -> impl Iterator<Item = u32> + '_ {
    tokens(smiles).filter(|&(_, is_ring)| is_ring).map(|(token, _)| token.parse().expect("a digit"))
}

/// The tokens of a SMILES, and whether each is the digit of a ring: bracket atoms, `Cl`, `Br`, `%10`, `>>`, single characters.
fn tokens(smiles: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = smiles;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = match first {
            '[' => rest.find(']').expect("a bracket is closed") + 1,
            '%' => 3,
            _ if ["Cl", "Br", ">>"].iter().any(|two| rest.starts_with(two)) => 2,
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some((token, first.is_ascii_digit()))
    })
}

/// One reaction.
fn reaction(draw: &mut Draw) -> String {
    let (core, amine, alcohol, aryl, alkyl) =
        (draw.from(&CORES), draw.from(&AMINES), draw.from(&ALCOHOLS), draw.from(&ARYLS), draw.from(&ALKYLS));
    let (reagents, product);
    let starting = match draw.below(12) {
        kind @ 0..=1 => {
            let acid = if kind == 0 { core } else { draw.from(&AMINO_ACIDS) };
            reagents = draw.from(&COUPLING_REAGENTS);
            product = attach(acid, &format!("C(=O){amine}"));
            format!("{}.{amine}", attach(acid, "C(=O)O"))
        }
        2 => {
            reagents = "O=S(=O)(O)O";
            product = attach(core, &format!("C(=O){alcohol}"));
            format!("{}.{alcohol}", attach(core, "C(=O)O"))
        }
        3 => {
            reagents = "CCN(CC)CC.ClCCl";
            product = attach(core, &format!("C(=O){amine}"));
            format!("{}.{amine}", attach(core, "C(=O)Cl"))
        }
        4 => {
            reagents = draw.from(&SUZUKI_REAGENTS);
            product = attach(core, &format!("-{aryl}"));
            format!("{}.{}", attach(core, "Br"), attach("OB(O){}", aryl))
        }
        5 => {
            reagents = "ClCCl.O=C(O)C(F)(F)F";
            product = attach(core, "CN");
            attach(core, "CNC(=O)OC(C)(C)C")
        }
        6 => {
            reagents = "CS(C)=O.O=C([O-])[O-].[K+].[K+]";
            let electrophile = draw.from(&["O=[N+]([O-])c1ccc({})cc1", "N#Cc1ccc({})nc1", "Clc1ccnc({})n1"]);
            product = attach(electrophile, amine);
            format!("{}.{amine}", attach(electrophile, "F"))
        }
        7 => {
            reagents = "CC(=O)O[BH-](OC(C)=O)OC(C)=O.ClCCCl.[Na+]";
            product = attach(core, &format!("C{amine}"));
            format!("{}.{amine}", attach(core, "C=O"))
        }
        8 => {
            reagents = "CC(C)=O.O=C([O-])[O-].[K+].[K+]";
            product = attach(core, &format!("O{alkyl}"));
            format!("{}.Br{alkyl}", attach(core, "O"))
        }
        9 => {
            reagents = draw.from(&["CCO.O.[Cl-].[Fe].[NH4+]", "CO.[H][H].[Pd]"]);
            product = attach(core, "N");
            attach(core, "[N+](=O)[O-]")
        }
        10 => {
            reagents = draw.from(&["C1CCOC1.O.[Li+].[OH-]", "CO.O.[Na+].[OH-]"]);
            product = attach(core, "C(=O)O");
            attach(core, "C(=O)OC")
        }
        _ => {
            reagents = "ClCCl.c1ccncc1";
            product = attach(core, &format!("S(=O)(=O){amine}"));
            format!("{}.{amine}", attach(core, "S(=O)(=O)Cl"))
        }
    };
    // As in the corpus that such models are trained on, some reactions come with their reagents, some without.
    if draw.below(3) == 0 { format!("{starting}>>{product}") } else { format!("{starting}.{reagents}>>{product}") }
}

/// Reactions as token ids, `[CLS]` … `[SEP]`, one token of each masked: until there are `tokens` ids.
///
/// # Panics
///
/// If the vocabulary (a token a line) lacks a token of the SMILES.
pub fn token_ids(seed: u64, tokens_wanted: usize, vocabulary: &str) -> Vec<Ids> {
    let ids: HashMap<&str, u32> = vocabulary.lines().zip(0..).collect();
    let id = |token: &str| *ids.get(token).unwrap_or_else(|| panic!("{token} is not in the vocabulary"));
    let mut draw = Draw { seed, count: 0 };
    let (mut reactions, mut count) = (Vec::new(), 0);
    while count < tokens_wanted {
        let smiles = reaction(&mut draw);
        let mut input_ids = vec![id("[CLS]")];
        input_ids.extend(tokens(&smiles).map(|(token, _)| id(token)));
        let masked = 1 + draw.below(input_ids.len() - 1);
        input_ids[masked] = id("[MASK]");
        input_ids.push(id("[SEP]"));
        count += input_ids.len();
        reactions.push(Ids { name: reactions.len().to_string(), token_type_ids: vec![0; input_ids.len()], input_ids });
    }
    reactions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_of_a_group_get_numbers_that_are_free() {
        assert_eq!(attach("Cc1ccc({})cc1", "C(=O)NCc1ccccc1"), "Cc1ccc(C(=O)NCc2ccccc2)cc1");
        assert_eq!(attach("c1ccc(CCCC{})cc1", "N1CCOCC1"), "c1ccc(CCCCN2CCOCC2)cc1");
        assert_eq!(attach("OB(O){}", "c1ccccc1"), "OB(O)c1ccccc1");
        assert_eq!(attach("c1ccc(Oc2ccc({})cc2)cc1", "-c1ccsc1"), "c1ccc(Oc2ccc(-c3ccsc3)cc2)cc1");
    }

    #[test]
    fn smiles_are_cut_as_the_vocabulary_has_them() {
        let cut: Vec<_> = tokens("ClCBr.C[C@H]1%10[nH]>>N").map(|(token, _)| token).collect();
        assert_eq!(cut, ["Cl", "C", "Br", ".", "C", "[C@H]", "1", "%10", "[nH]", ">>", "N"]);
    }

    #[test]
    fn every_ring_and_branch_of_a_reaction_is_closed() {
        let mut draw = Draw { seed: 7, count: 0 };
        for _ in 0..1000 {
            let smiles = reaction(&mut draw);
            for molecule in smiles.split(['.', '>']) {
                let mut open = Vec::new();
                for digit in ring_digits(molecule) {
                    match open.iter().position(|&other| other == digit) {
                        Some(at) => drop(open.remove(at)),
                        None => open.push(digit),
                    }
                }
                assert!(open.is_empty(), "{molecule} in {smiles}");
                assert_eq!(molecule.matches('(').count(), molecule.matches(')').count(), "{molecule} in {smiles}");
            }
            assert_eq!(smiles.matches(">>").count(), 1);
        }
    }
}
