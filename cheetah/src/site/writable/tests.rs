//! What the writer of a site tells of changes to one path that become durable together, or of which nobody
//! knows.

use super::*;
use fsstack::log::Contents;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn writer() -> (tempfile::TempDir, SiteWriter) {
    let folder = tempfile::tempdir().unwrap();
    let writer = SiteWriter::open(&folder.path().join("a.img"), &OpenOptions::default()).unwrap();
    (folder, writer)
}

fn put(path: &str, content: &str) -> WantedChange {
    let wish = Wish::Put(Contents::from(content.as_bytes().to_vec()));
    WantedChange { path: path.as_bytes().to_vec(), wish, conditions: None }
}

fn delete(path: &str) -> WantedChange {
    WantedChange { path: path.as_bytes().to_vec(), wish: Wish::Delete, conditions: None }
}

fn shown(writer: &SiteWriter, path: &str) -> Vec<u8> {
    match writer.site.find(path.as_bytes()) {
        Found::File(document) => document.facts().validators.etag.to_vec(),
        _ => panic!("it is not shown"),
    }
}

/// Waits for as many as were begun.
fn finished(writer: &mut SiteWriter, count: usize) -> Vec<Vec<Outcome>> {
    let mut over = Vec::new();
    loop {
        over.extend(writer.finished());
        if over.len() == count {
            return over;
        }
        let bell = writer.bell().unwrap();
        let deadline = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&deadline)).unwrap(), 1);
    }
}

#[test]
fn each_is_told_the_tag_of_what_it_put() {
    let (_folder, mut writer) = writer();
    let contents = ["one", "two, longer", ""];
    // The tag is of the contents.
    let alone: Vec<Vec<u8>> = (contents.iter().enumerate())
        .map(|(i, content)| {
            let [outcome] = &writer.commit(&[put(&format!("alone-{i}"), content)])[..] else { panic!() };
            let tag = outcome.clone().unwrap().etag;
            assert_eq!(tag, shown(&writer, &format!("alone-{i}")));
            tag
        })
        .collect();
    assert!(alone[0] != alone[1] && alone.iter().all(|tag| !tag.is_empty()));

    let puts = contents.map(|content| put("file", content));
    let tags = |outcomes: &[Outcome]| -> Vec<Vec<u8>> {
        outcomes.iter().map(|outcome| outcome.clone().unwrap().etag).collect()
    };
    let outcomes = writer.commit(&puts);
    assert_eq!((tags(&outcomes), shown(&writer, "file")), (alone.clone(), alone[2].clone()));
    // Gone again when all is on the disk.
    let outcomes = writer.commit(&[put("gone", contents[0]), delete("gone")]);
    assert_eq!(tags(&outcomes), [alone[0].clone(), Vec::new()]);
    // On their way together, however many of them get there before somebody looks.
    for change in &puts {
        assert!(writer.begin(vec![change.clone()]).is_none());
    }
    let over = finished(&mut writer, puts.len());
    assert_eq!((tags(&over.concat()), shown(&writer, "file")), (alone.clone(), alone[2].clone()));
}

#[test]
fn what_was_begun_on_a_log_that_was_let_go_of_has_failed() {
    let (_folder, mut writer) = writer();
    assert!(writer.begin(vec![put("a", "one"), put("b", "two")]).is_none());
    assert!(writer.begin(vec![put("c", "three")]).is_none());
    writer.forget(&LogError::Lost);
    let failed = || Err(NotMade::Failed);
    assert_eq!(writer.finished(), [vec![failed(), failed()], vec![failed()]]);
    // It goes on, with what is on the disk.
    let made = writer.commit(&[put("d", "four")]);
    assert_eq!(made[0].as_ref().unwrap().etag, shown(&writer, "d"));
}

#[test]
fn after_what_could_not_be_shown_all_is() {
    let (_folder, mut writer) = writer();
    writer.commit(&[put("a", "one")]);
    writer.site.change(|site| site.set(b"a", None));
    // As where a document could not be read.
    writer.dropped = None;
    writer.commit(&[put("b", "two")]);
    assert_ne!(shown(&writer, "a"), shown(&writer, "b"));
    assert_eq!(writer.dropped, writer.log.as_ref().map(Log::dropped_segments));
}
