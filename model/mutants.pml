/*
 * What lock.pml leaves open: the protocol as it is, then the faults, then the mutants. A mutant takes
 * one thing out of the protocol, or puts one in the wrong place, and redefines nothing else.
 */

/* ---- the protocol ---- */
#define GUARD_TO_SUPERSEDE guard == 0 -> guard = me
#define GUARD_TO_APPEND guard == 0 -> guard = me
#define GUARD_TO_RELEASE guard == 0 -> guard = me
#define BEGIN_GUARD_FREE guard == 0
#define SUPERSEDES(names) names         /* under the guard: the path names the inode that was judged */
#define RELEASES lock == claim[me]      /* ... or the lease's own */
#define RENAME_OVER(turn) rename_over(turn)
#define AFTER_RENAME
#define LOOKS_DEAD flock_of[lock] == 0  /* Inspector.look(to_take=True): the kernel says so */
#define INHERITED owed_of[lock]         /* a claim owes what the one that it replaces owed */
#define FLOCKED_AT_BIRTH me
#define AFTER_BEGIN
#define OPEN(thread) true               /* a lease's claim is open as long as the object lives, */
#define JUDGED_OPEN(thread) true        /* a judged one until after the rename */
#define LOST_AT_BEGIN goto DONE       /* a take that lost its claim has failed: LeaseRevoked */
#define END_THE_TURN what = terminal_entry
#define AFTER_UNLINK
#define LEAVES_OWING true               /* FilesBackend.leave_owing instead of release */
#define BEFORE_FENCE
#define BEFORE_WRITE
#define DROP_GUARD_AFTER_WRITE drop_guard(me)
#define FSYNC unsynced = unsynced & ~BIT(me)
#define AFTER_FSYNC
#define DROPS_PROBE true

/* ---- how fine the steps are ---- */
#ifdef FINE                             /* every step that the code has */
#define JUDGE_FREE true
#define BETWEEN_JUDGEMENT_AND_GUARD }; atomic {
#define BETWEEN_WRITE_AND_FSYNC }; atomic {
#else
/* Judged and checked at once, when the guard is free. What was judged dead or over its limit stays so
 * as long as the path names it, so to judge it later, at the check, finds the same; and what was
 * judged and is named no more was judged for nothing. */
#define JUDGE_FREE guard == 0
#define BETWEEN_JUDGEMENT_AND_GUARD ;
/* Written, made durable and acknowledged at once: the latter two nobody else sees. */
#define BETWEEN_WRITE_AND_FSYNC ;
#endif
#ifdef REUSE                            /* an inode number that is free is the next to be given */
#define FIRST_NUMBER(thread) 1
#else                                   /* it never comes back to anybody else */
#define FIRST_NUMBER(thread) (IS_TURN(thread) -> thread : TURNS + 1 + 3 * (thread - TURNS - 1))
#endif

/* ---- faults: each an alternative to the step. Fairness must not force one where the step itself
 * has to wait, so that for liveness a fault comes only where the step could be taken. ---- */
#ifdef FAIR
#define DEAD end_stopped                /* nobody comes in a dead revoker's place */
#define COULD_ACT (guard == 0 || guard == me)
#define COULD_TAKE (guard == 0 && started >= me && (lock == 0 || LOOKS_DEAD || late))
#else
#define DEAD end
#define COULD_ACT true
#define COULD_TAKE started >= me
#endif
#ifdef CRASH                            /* SIGKILL */
#define DIES :: COULD_ACT -> d_step { die(me); verdict = 0; what = 0; u = 0 }; \
    SAY(("%d dies\n", me)); goto DEAD
#define DIES_IN_QUEUE :: COULD_TAKE -> d_step { die(me) }; SAY(("%d dies\n", me)); goto end
#else
#define DIES
#define DIES_IN_QUEUE
#endif
#ifdef STOP                             /* SIGSTOP for ever, except in the guard; a turn that hangs */
#define STOPS :: COULD_ACT && guard != me -> served = (served | BIT(me)) & EVERY_TURN; \
    SAY(("%d is stopped\n", me)); goto end_stopped
#define STOPS_IN_QUEUE :: COULD_TAKE -> served = served | BIT(me); \
    SAY(("%d is stopped\n", me)); goto end_stopped
#define OR_HANGS :: served = (served | BIT(me)) & EVERY_TURN; \
    SAY(("%d hangs in fsync\n", me)); goto end_stopped
#else
#define STOPS
#define STOPS_IN_QUEUE
#define OR_HANGS
#endif
#ifdef STOP
#define OR_IS_STOPPED :: held != 0 && guard == 0 -> goto end_stopped
#else
#define OR_IS_STOPPED
#endif
#define OR_DIES DIES STOPS
#define OR_DIES_IN_QUEUE DIES_IN_QUEUE STOPS_IN_QUEUE
#ifdef FULL                             /* a write that fails half-way, an fsync that fails */
#define OR_BREAKS_OFF DIES :: goto FAILED
#define OR_FSYNC_FAILS :: goto RELEASE
#else
#define OR_BREAKS_OFF DIES
#define OR_FSYNC_FAILS
#endif
#ifdef OPERATES                         /* turnlock release, doctor --fix, clean-up at a start */
#define OR_OPERATES :: lock != 0 -> target[me] = 0
#else
#define OR_OPERATES
#endif

/* ---- time: for safety any limit may pass at any moment; for liveness it does pass in the end ---- */
#ifdef FAIR
#define LOOKS_LATE late
#define MAY_WRITE_MORE open_turn != me  /* or it would keep others from the guard for ever */
#define IS_FREE :: MAY_TAKE && lock != 0 && LOOKS_DEAD && !woken -> \
    d_step { come_to_head(); judged[me] = lock; flock_of[lock] = me; woken = true }; goto PROBED
#define WOKEN woken
#ifdef NO_CLOCK
#define CLOCK :: false
#else
#define CLOCK :: lock != 0 && !late -> late = true
#endif
#else
#define LOOKS_LATE true
#define MAY_WRITE_MORE true
#define IS_FREE
#define WOKEN true
#define CLOCK :: false
#endif

/* ---- mutants: safety ---- */
#ifdef MARKER_FIRST
#undef BEFORE_FENCE
#define BEFORE_FENCE \
    atomic { \
        if \
        :: guard == 0 && target[me] != 0 && open_turn == target[me] -> \
            d_step { ended = ended | BIT(open_turn); due = due & ~ended; open_turn = 0; known = 0 }; \
            SAY(("%d writes the marker of its target\n", me)) \
        :: guard == 0 && (target[me] == 0 || open_turn != target[me]) \
        OR_DIES \
        fi \
    };
#endif

#ifdef UNLINK_BY_PATH                   /* remove what is judged stale, then take as if it were free */
#undef GUARD_TO_SUPERSEDE
#define GUARD_TO_SUPERSEDE true
#undef SUPERSEDES
#define SUPERSEDES(names) true
#undef RENAME_OVER
#define RENAME_OVER(turn) \
    assert(lock == judged[me] || !lives[lock]); \
    forget(lock); lock = 0; close_judged(me); verdict = 0; u = 0
#undef AFTER_RENAME
#define AFTER_RENAME goto TAKE;
#endif

#ifdef NO_GUARD                         /* append: check, then write */
#undef GUARD_TO_APPEND
#define GUARD_TO_APPEND true
#endif

#ifdef CHECK_BEFORE_GUARD               /* append: check, take the guard, write */
#undef GUARD_TO_APPEND
#define GUARD_TO_APPEND true
#undef BEFORE_WRITE
#define BEFORE_WRITE guard == 0 -> guard = me;
#endif

#ifdef NO_GUARD_TO_SUPERSEDE
#undef GUARD_TO_SUPERSEDE
#define GUARD_TO_SUPERSEDE true
#endif

#ifdef NO_GUARD_TO_RELEASE
#undef GUARD_TO_RELEASE
#define GUARD_TO_RELEASE true
#endif

#ifdef UNGUARDED_WITHOUT_TRANSCRIPT     /* whoever takes a dead claim needs its flock, and no guard */
bool made;                              /* a turn has begun, or a living holder was superseded */
#define UNGUARDED (!made && epoch == 0)
#undef AFTER_BEGIN
#define AFTER_BEGIN made = true
#undef GUARD_TO_SUPERSEDE
#define GUARD_TO_SUPERSEDE \
    (guard == 0 || (UNGUARDED && verdict == stale)) -> \
    made = made || verdict != stale; \
    guard = (UNGUARDED -> guard : me)
#undef GUARD_TO_RELEASE
#define GUARD_TO_RELEASE \
    (guard == 0 || (UNGUARDED && !IS_TURN(me))) -> guard = (UNGUARDED -> guard : me)
#endif

#ifdef NO_INODE_CHECK_BEFORE_RENAME
#undef SUPERSEDES
#define SUPERSEDES(names) true
#endif

#ifdef RELEASE_WITHOUT_INODE_CHECK
#undef RELEASES
#define RELEASES true
#endif

#ifdef OWED_MARKERS_DROPPED             /* only the turn that was judged, not what it owed itself */
#undef INHERITED
#define INHERITED 0
#endif

#ifdef RELEASED_OWING                   /* whoever cannot settle, or gave up, releases all the same */
#undef LEAVES_OWING
#define LEAVES_OWING false
#endif

#ifdef TAKES_AGAIN                      /* the take that lost its claim begins anew, as the same turn */
#undef LOST_AT_BEGIN
#define LOST_AT_BEGIN d_step { close_claim(me) }; goto TAKE
#endif

#ifdef CLOSED_ON_REVOKE                 /* with REUSE */
#undef OPEN
#define OPEN(thread) !(IS_TURN(thread) && (fenced & BIT(thread)))
#endif

#ifdef CLOSED_ON_RELEASE                /* with REUSE */
#undef OPEN
#define OPEN(thread) !(IS_TURN(thread) && (over & BIT(thread)))
#endif

#ifdef JUDGED_CLOSED_EARLY              /* with REUSE: its number is kept, its descriptor is not */
#undef JUDGED_OPEN
#define JUDGED_OPEN(thread) false
#endif

#ifdef VERDICT_BY_PID                   /* in another container a live holder's pid is nobody's */
#undef LOOKS_DEAD
#define LOOKS_DEAD true
#endif

#ifdef LINKED_BEFORE_FLOCKED
#undef FLOCKED_AT_BIRTH
#define FLOCKED_AT_BIRTH 0
#undef AFTER_BEGIN
#define AFTER_BEGIN flock_of[claim[me]] = me
#endif

#ifdef END_NOT_COMPARED                 /* read once, without the guard, and believed from then on */
byte known_epoch[THREADS + 1], known_open[THREADS + 1], known_ended[THREADS + 1];
#define KNOWN_EPOCH known_epoch[me]
#define KNOWN_OPEN known_open[me]
#define KNOWN_ENDED known_ended[me]
#define END_MOVED false
inline know_end() {
    known_epoch[me] = epoch;
    known_open[me] = open_turn;
    known_ended[me] = ended
}
#undef BEGIN_GUARD_FREE
#define BEGIN_GUARD_FREE true
#endif

#ifdef TERMINAL_AFTER_UNLINK            /* release, then say that the turn has ended */
#undef END_THE_TURN
#define END_THE_TURN d_step { drop_guard(me); what = terminal_entry }; goto RELEASE
#undef AFTER_UNLINK
#define AFTER_UNLINK \
    atomic { \
        guard == 0 -> \
        if \
        :: what == terminal_entry && open_turn != 0 -> terminal(me) \
        :: else \
        fi; \
        SAY(("%d writes its terminal entry\n", me)) \
    };
#endif

#ifdef FSYNC_DROPPED
#undef FSYNC
#define FSYNC true
#endif

/* ---- mutants: liveness ---- */
#ifdef FSYNC_INSIDE_GUARD
#undef DROP_GUARD_AFTER_WRITE
#define DROP_GUARD_AFTER_WRITE if :: !IS_TURN(me) -> drop_guard(me) :: else fi
#undef AFTER_FSYNC
#define AFTER_FSYNC d_step { drop_guard(me) };
#endif

#ifdef PROBE_KEEPS_FLOCK                /* a waiter that was woken looks again, its own flock in the way */
#undef DROPS_PROBE
#define DROPS_PROBE judged[me] != 0 -> judged[me] = 0
#endif
