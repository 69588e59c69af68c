//! The power fails after every single erase and program of an upload, of the switch to the new model, and of a fallback, and leaves that
//! operation undone, half done or done. After each restart the old or the new model is there, whole, and the update can be finished.

use mbert_device::store::{ModelStore, StoreError, Verdict};
use mbert_tests::splitmix64;

use crate::board::{Board, Device, bad, new, offer, old, start, upload};
use crate::power::{Cut, Tear};

/// The power may have failed; nothing else may.
fn survived<T, const W: usize, const E: usize>(result: Result<T, StoreError>, device: Device<W, E>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) => {
            assert!(device.into_inner().is_off(), "{error}");
            None
        }
    }
}

/// Switches a board on, does something, and cuts the power. Returns whether it was done before.
fn done_before<const W: usize, const E: usize>(
    board: &mut Board<W, E>,
    cut: Cut,
    work: impl FnOnce(&mut Device<W, E>) -> Result<(), StoreError>,
) -> bool {
    match board.on(Some(cut)) {
        Ok(mut device) => {
            let result = work(&mut device);
            survived(result, device).is_some()
        }
        Err(StoreError::Flash { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Cuts the power at each operation of `work` on a board like `before`, and looks at what is there then. Returns how often it was cut.
fn cut_everywhere<const W: usize, const E: usize>(
    before: &Board<W, E>,
    work: impl Fn(&mut Device<W, E>) -> Result<(), StoreError>,
    check: impl Fn(&mut Board<W, E>, Cut),
) -> u64 {
    let mut states = 0;
    let mut board = before.clone();
    for after in 0.. {
        for tear in Tear::ALL {
            board.memory.copy_from_slice(&before.memory);
            let cut = Cut { after, tear };
            if done_before(&mut board, cut, &work) {
                return states;
            }
            states += 1;
            check(&mut board, cut);
        }
    }
    unreachable!("the work comes to an end")
}

/// The old or the new model answers, as it was made.
fn has_a_model<const W: usize, const E: usize>(board: &mut Board<W, E>, cut: Cut) -> bool {
    let found = board.started().unwrap_or_else(|| panic!("no model after {cut:?}"));
    assert!(found == old() || found == new(), "a mixture after {cut:?}");
    found == new()
}

/// The update goes on and comes to its end.
fn finishes<const W: usize, const E: usize>(board: &mut Board<W, E>) {
    let mut device = board.safe();
    start(&mut device).unwrap();
    upload(&mut device, new()).unwrap();
    let active = start(&mut device).unwrap().unwrap();
    assert!(board.bytes(active) == new());
}

fn update<const W: usize, const E: usize>(device: &mut Device<W, E>) -> Result<(), StoreError> {
    start(device)?;
    upload(device, new())?;
    start(device)?;
    Ok(())
}

/// An upload and the switch at its end, in a flash of these sizes.
fn update_cut_everywhere<const W: usize, const E: usize>() -> u64 {
    let before = Board::<W, E>::with_old();
    cut_everywhere(&before, update, |board, cut| {
        has_a_model(board, cut);
        finishes(board);
    })
}

#[test]
fn an_upload_and_the_switch_survive_a_cut_at_every_operation() {
    let states = [
        ("4 in 4096", update_cut_everywhere::<4, 4096>()),
        ("1 in 256", update_cut_everywhere::<1, 256>()),
        ("32 in 8192", update_cut_everywhere::<32, 8192>()),
    ];
    for (flash, states) in states {
        println!("words of {flash} bytes: {states} states cut");
        assert!(states > 500, "{states}");
    }
}

#[test]
fn a_fallback_survives_a_cut_at_every_operation() {
    let falls_back = |device: &mut Device<4, 1024>| start(device).map(|_| ());
    let check = |board: &mut Board<4, 1024>, cut| {
        assert!(!has_a_model(board, cut), "{cut:?}");
        finishes(board);
    };
    let (mut failed, mut stopped) = (0, 0);
    // Wherever the log of the state stands: at the end of a block it goes to the next one.
    for records in 0..18 {
        let mut board = Board::<4, 1024>::with_old();
        let mut device = board.safe();
        start(&mut device).unwrap();
        for record in 0..records {
            device.begin(&offer([new(), bad()][record % 2])).unwrap();
        }
        assert_eq!(upload(&mut device, bad()), Ok(Verdict::Switched { slot: 1 }));
        failed += cut_everywhere(&board, falls_back, check);

        // The new model has stopped the device, after the record that it was begun: the next start finds that.
        let begun = Cut { after: 1 + u64::from(is_at_the_end_of_a_block(&mut board)), tear: Tear::Nothing };
        assert!(!done_before(&mut board, begun, falls_back));
        stopped += cut_everywhere(&board, falls_back, check);
    }
    println!("{failed} states cut in a fallback, {stopped} after a model that stops the device");
    assert!(failed > 18 * 8 && stopped > 18 * 4, "no block of the log was left");
}

/// Whether the next record of the state goes to another block.
fn is_at_the_end_of_a_block<const W: usize, const E: usize>(board: &mut Board<W, E>) -> bool {
    let mut copy = board.clone();
    let mut device = copy.safe();
    device.begin(&offer(new())).unwrap();
    device.into_inner().operations() == 2
}

#[test]
fn cut_again_and_again_an_update_still_comes_to_its_end() {
    let (before, mut cuts) = (Board::<4, 4096>::with_old(), 0);
    for seed in 0..100 {
        let mut board = before.clone();
        for k in 0.. {
            let random = splitmix64(seed, k);
            let cut = Cut { after: random % 60, tear: Tear::ALL[(random >> 32) as usize % 4] };
            let done = done_before(&mut board, cut, update);
            let is_new = has_a_model(&mut board, cut);
            cuts += u64::from(!done);
            if is_new {
                break;
            }
            assert!(k < 200, "no end");
        }
    }
    println!("{cuts} cuts in 100 updates");
}

#[test]
fn after_a_cut_an_upload_goes_on_where_it_stopped() {
    let mut board = Board::<4, 4096>::with_old();
    let mut device = board.safe();
    start(&mut device).unwrap();
    let sent = 3 * 4096 + 1000;
    assert_eq!(device.begin(&offer(new())).unwrap().next_offset, 0);
    device.write(0, &new()[..sent]).unwrap();
    let mut device = board.safe();
    start(&mut device).unwrap();
    assert_eq!(device.status().upload, Some((3 * 4096, new().len() as u32)));
    assert_eq!(device.begin(&offer(new())).unwrap().next_offset, 3 * 4096);
    // Another model begins anew.
    assert_eq!(device.begin(&offer(bad())).unwrap().next_offset, 0);
}
