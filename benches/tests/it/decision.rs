//! A poll that changes nothing must cost no memory: a million devices ask every five minutes.

use allocation_counter::measure;
use sluice_benches::sample::{self, RELEASES};
use sluice_catalog::Reason;
use sluice_catalog::decide::{Decision, decide};
use sluice_signer::{DirectorExpect, Limits};

#[test]
fn a_decision_that_offers_nothing_allocates_nothing() {
    let now = sample::now();
    for (runs, percent, expected) in [(RELEASES, 100, Reason::UpToDate), (RELEASES - 1, 1, Reason::StageWait)] {
        let (device, product) = (sample::device(runs).unwrap(), sample::product(percent).unwrap());
        let mut reason = None;
        let counted = measure(|| {
            if let Decision::Nothing { reason: found, .. } = decide(&device, &product, now, &mut ()) {
                reason = Some(found);
            }
        });
        assert_eq!(reason, Some(expected));
        assert_eq!(counted.count_total, 0, "{expected:?}: {} bytes", counted.bytes_total);
    }
}

#[test]
fn an_offer_allocates_its_list_of_images_and_no_more() {
    let (device, product) = (sample::device(RELEASES - 1).unwrap(), sample::product(100).unwrap());
    let mut offered = None;
    let counted = measure(|| {
        if let Decision::Offer { release, artifacts, .. } = decide(&device, &product, sample::now(), &mut ()) {
            offered = Some((release.release.order, artifacts.len()));
        }
    });
    assert_eq!(offered, Some((i64::from(RELEASES), 1)));
    assert_eq!(counted.count_total, 1);
}

#[test]
fn counting_sees_an_allocation() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![1u8; 100]))).count_total, 1);
}

#[test]
fn the_offer_of_the_benches_is_one_that_a_device_takes() {
    let offer = sample::offer().unwrap();
    let bytes = offer.document.sign(&offer.key, &Limits::default()).unwrap();
    let expect = DirectorExpect {
        device_id: &offer.document.device_id,
        nonce: offer.document.nonce.as_deref(),
        now: offer.now,
        last_version: 0,
    };
    assert_eq!(offer.trust.verify_director(&bytes, &expect).unwrap().document, offer.document);
}
