use super::*;
use crate::random::Random;

/// Runs `work` on every rank and returns the results in the order of the ranks.
fn on_ranks<T: Send>(count: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let running: Vec<_> =
            Ranks::threads(count).into_iter().map(|ranks| scope.spawn(move || work(&ranks))).collect();
        running.into_iter().map(|thread| thread.join().expect("a rank ends")).collect()
    })
}

fn numbers(rank: usize, len: usize) -> Vec<f32> {
    let mut random = Random::keyed(&[rank as u64]);
    (0..len).map(|_| random.normal()).collect()
}

#[test]
fn sums_are_added_in_the_order_of_the_ranks() {
    for count in 1..=5 {
        for len in [0, 1, 3, 16, 1001] {
            let mut expected = numbers(0, len);
            for rank in 1..count {
                expected.iter_mut().zip(numbers(rank, len)).for_each(|(sum, x)| *sum += x);
            }
            let sums = on_ranks(count, |ranks| {
                let mut values = numbers(ranks.rank(), len);
                ranks.sum(&mut values);
                values
            });
            assert_eq!(sums, vec![expected; count], "{count} ranks, {len} numbers");
        }
    }
}

#[test]
fn the_largest_number_is_that_of_any_rank() {
    let largest = on_ranks(3, |ranks| {
        let mut values = numbers(ranks.rank(), 50);
        ranks.max(&mut values);
        ranks.max(&mut []);
        values
    });
    let expected: Vec<f32> =
        (0..50).map(|i| (0..3).map(|rank| numbers(rank, 50)[i]).fold(f32::NEG_INFINITY, f32::max)).collect();
    assert_eq!(largest, vec![expected; 3]);
}

#[test]
fn dealt_tasks_come_back_in_their_order() {
    for (count, tasks) in [(1, 4), (2, 0), (3, 1), (3, 7), (4, 8)] {
        let result = |task: usize| vec![task as f64, f64::INFINITY, -0.0];
        let results = on_ranks(count, |ranks| {
            ranks.deal(tasks, |task| {
                assert_eq!(task % count, ranks.rank());
                result(task)
            })
        });
        assert_eq!(results, vec![(0..tasks).map(result).collect::<Vec<_>>(); count]);
    }
}

#[test]
fn rank_0_shares_its_result_or_its_failure() {
    let found = on_ranks(3, |ranks| {
        let shared = ranks.share_result(|| {
            assert!(ranks.leads(), "only rank 0 works");
            Ok::<_, LeaderFailed>(vec![7, 8])
        });
        (shared, ranks.share_bytes(|| Ok::<_, LeaderFailed>(vec![9; 5])))
    });
    assert_eq!(found, vec![(Ok(vec![7, 8]), Ok(vec![9; 5])); 3]);
    let failed = on_ranks(2, |ranks| ranks.share_result(|| Err::<u8, LeaderFailed>(LeaderFailed)));
    assert_eq!(failed, [Err(LeaderFailed); 2]);
}

#[test]
fn what_differs_is_found_on_every_rank() {
    assert_eq!(on_ranks(3, |ranks| ranks.different(vec![1, 2])), vec![Vec::<usize>::new(); 3]);
    assert_eq!(on_ranks(3, |ranks| ranks.different(vec![u8::from(ranks.rank() == 2)])), vec![vec![2]; 3]);
}

#[test]
fn rank_0_has_the_first_turn() {
    let order = std::sync::Mutex::new(Vec::new());
    on_ranks(4, |ranks| ranks.in_turns(|| order.lock().expect("no panic").push(ranks.rank())));
    let order = order.into_inner().expect("no panic");
    assert_eq!((order.len(), order[0]), (4, 0));
}
