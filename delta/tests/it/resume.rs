//! Interrupted work goes on at the last segment that verifies.

use std::io::Cursor;

use sluice_delta::{Applier, ApplyBudget, ApplyError, DiffOptions, Head, Patch, ResumePoint, Segment};

use crate::images::{code_like, patch_with};

struct Case {
    old: Vec<u8>,
    new: Vec<u8>,
    patch: Patch,
}

fn case() -> Case {
    let (old, new) = (code_like(500, 0), code_like(500, 1));
    let options = DiffOptions { segment_len: Some(16 << 10), ..DiffOptions::default() };
    let patch = patch_with(&old, &new, &options);
    assert!(patch.head.segments.len() > 4);
    Case { old, new, patch }
}

impl Case {
    fn coded(&self, segment: &Segment) -> &[u8] {
        &self.patch.bytes[segment.patch_offset as usize..][..segment.coded_len as usize]
    }

    fn go_on(&self, head: &Head, applier: &mut Applier<'_>, slot: &mut Vec<u8>) -> Result<(), ApplyError> {
        let first = head.segments.iter().take_while(|s| s.new_offset < slot.len() as u64).count();
        for (number, segment) in head.segments.iter().enumerate().skip(first) {
            applier.segment(number as u32, self.coded(segment), &mut Cursor::new(&self.old), slot)?;
        }
        Ok(())
    }
}

#[test]
fn after_every_segment() {
    let case = case();
    let head = &case.patch.head;
    for (number, segment) in head.segments.iter().enumerate() {
        // A segment was half written when the power went.
        let end = segment.new_offset as usize + segment.len as usize;
        let mut slot = case.new[..end.min(case.new.len()) - 1].to_vec();
        let mut applier = Applier::new(head, ApplyBudget::default()).unwrap();
        let point = applier.resume_point(&mut &slot[..]).unwrap();
        assert_eq!(
            point,
            ResumePoint {
                segments_done: number as u32,
                new_offset: segment.new_offset,
                patch_offset: segment.patch_offset
            }
        );
        slot.truncate(point.new_offset as usize);
        case.go_on(head, &mut applier, &mut slot).unwrap();
        applier.finish().unwrap();
        assert_eq!(slot, case.new);
    }
}

#[test]
fn damaged_output_is_done_again() {
    let case = case();
    let head = &case.patch.head;
    let mut slot = case.new.clone();
    let third = &head.segments[2];
    slot[third.new_offset as usize + 5] ^= 1;
    let mut applier = Applier::new(head, ApplyBudget::default()).unwrap();
    let point = applier.resume_point(&mut &slot[..]).unwrap();
    assert_eq!((point.segments_done, point.new_offset), (2, third.new_offset));
}

#[test]
fn finished_output_needs_nothing_more() {
    let case = case();
    let head = &case.patch.head;
    let mut applier = Applier::new(head, ApplyBudget::default()).unwrap();
    let point = applier.resume_point(&mut &case.new[..]).unwrap();
    assert_eq!(point.patch_offset, case.patch.bytes.len() as u64);
    assert_eq!(applier.next_segment(), None);
    applier.finish().unwrap();
}

#[test]
fn a_failed_segment_can_be_tried_again() {
    let case = case();
    let head = &case.patch.head;
    let mut applier = Applier::new(head, ApplyBudget::default()).unwrap();
    let mut slot = Vec::new();
    let mut damaged = case.coded(&head.segments[0]).to_vec();
    damaged[0] ^= 1;
    let refused = applier.segment(0, &damaged, &mut Cursor::new(&case.old), &mut slot);
    assert!(matches!(refused, Err(ApplyError::SegmentMismatch { segment: 0 })));
    assert!(slot.is_empty(), "nothing is written before the segment is authenticated");

    // A changed old image shows only in the output; the caller discards what was written.
    let mut other = case.old.clone();
    for byte in &mut other {
        *byte ^= 1;
    }
    let coded = case.coded(&head.segments[0]);
    let refused = applier.segment(0, coded, &mut Cursor::new(&other), &mut slot);
    assert!(matches!(refused, Err(ApplyError::OutputMismatch { segment: 0 })));

    slot.clear();
    case.go_on(head, &mut applier, &mut slot).unwrap();
    applier.finish().unwrap();
    assert_eq!(slot, case.new);
}

#[test]
fn segments_come_in_table_order_and_all_of_them() {
    let case = case();
    let head = &case.patch.head;
    let mut applier = Applier::new(head, ApplyBudget::default()).unwrap();
    let coded = case.coded(&head.segments[1]);
    let refused = applier.segment(1, coded, &mut Cursor::new(&case.old), &mut Vec::new());
    assert!(matches!(refused, Err(ApplyError::OutOfOrder { expected: 0, found: 1 })));
    assert!(matches!(applier.finish(), Err(ApplyError::OutOfOrder { expected: 0, .. })));
}

#[test]
fn storage_that_lost_bytes_is_found_by_reading_back() {
    let case = case();
    let head = &case.patch.head;
    let run = || {
        let mut applier = Applier::new(head, ApplyBudget::default()).unwrap();
        let mut slot = Vec::new();
        case.go_on(head, &mut applier, &mut slot).unwrap();
        (applier, slot)
    };
    let (applier, slot) = run();
    applier.finish_reading(&mut &slot[..]).unwrap();
    let (applier, mut slot) = run();
    slot[100] ^= 1;
    assert!(matches!(applier.finish_reading(&mut &slot[..]), Err(ApplyError::NewMismatch)));
}
