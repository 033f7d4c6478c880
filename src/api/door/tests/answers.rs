use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Answers `value` for as long as such an answer lasts, and counts.
fn asked(
    count: &Arc<AtomicUsize>,
    value: Answer<u8>,
) -> impl FnOnce() -> futures::future::Ready<(Answer<u8>, Duration)> {
    let count = count.clone();
    move || {
        count.fetch_add(1, Ordering::Relaxed);
        let lasts = value.lasts();
        futures::future::ready((value, lasts))
    }
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_used_for_half_a_minute_a_no_for_ten_seconds_a_failure_for_one() {
    let no = || Answer::No("no".to_owned());
    let unknown = || Answer::Unknown("down".to_owned());
    for (value, seconds) in [(Answer::Yes(7), 30), (no(), 10), (unknown(), 1)] {
        let (answers, count) = (Answers::new(), Arc::default());
        assert_eq!(answers.ask(&"a", asked(&count, value.clone())).await, value);
        advance(Duration::from_millis(seconds * 1000 - 1)).await;
        assert_eq!(answers.ask(&"a", asked(&count, Answer::Yes(9))).await, value);
        assert_eq!(count.load(Ordering::Relaxed), 1, "{value:?}");
        advance(Duration::from_millis(1)).await;
        assert_eq!(answers.ask(&"a", asked(&count, Answer::Yes(9))).await, Answer::Yes(9));
        assert_eq!(count.load(Ordering::Relaxed), 2, "{value:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_share_one_question_and_its_failure() {
    let (answers, count, gate) = (Arc::new(Answers::new()), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let ask = || {
        let (answers, count, gate) = (answers.clone(), count.clone(), gate.clone());
        async move {
            let question = || async move {
                count.fetch_add(1, Ordering::Relaxed);
                gate.notified().await;
                (Answer::<u8>::Unknown("down".to_owned()), Duration::from_secs(1))
            };
            answers.ask(&"a", question).await
        }
    };
    let waiting: Vec<_> = (0..50).map(|_| tokio::spawn(ask())).collect();
    tokio::task::yield_now().await;
    gate.notify_one();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Answer::Unknown("down".to_owned()));
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waited_for_grows_old_too() {
    let answers = Answers::new();
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (Answer::Yes(1), Duration::from_secs(30))
    };
    assert!(tokio::time::timeout(Duration::from_millis(1), answers.ask(&"a", slow)).await.is_err());
    tokio::time::sleep(Duration::from_mins(1)).await;
    let count = Arc::default();
    assert_eq!(answers.ask(&"a", asked(&count, Answer::No("gone".to_owned()))).await, Answer::No("gone".to_owned()));
    assert!(!answers.is_yes_or_asked(&"a"));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_answers_is_bounded_and_the_first_to_end_goes_first() {
    let (answers, count) = (Answers::new(), Arc::default());
    answers.ask(&0, asked(&count, Answer::Yes(0))).await;
    for key in 1..=4096 {
        advance(Duration::from_micros(1)).await;
        answers.ask(&key, asked(&count, Answer::Yes(0))).await;
    }
    assert!(!answers.is_yes_or_asked(&0) && answers.is_yes_or_asked(&1) && answers.is_yes_or_asked(&4096));
}
