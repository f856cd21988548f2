/*
 * The lock on files: src/turnlock/backends/files and src/turnlock/turns/{turn,writer,revoking}.py.
 * README.md maps every step to its function, and says what is left out and why that may be.
 *
 * One session. TURNS turns take it, at most PROCESSES of them at a time in no queue any more.
 * REVOKERS workers take it from them: a watchdog's, an operator's, clean-up's. A step is what nobody
 * can see the middle of; where one stands for several system calls its comment says why. A process
 * that is stopped between two steps and goes on later needs no step of its own: it is one that is
 * not scheduled for a while. One that is stopped for ever is for the check of liveness.
 *
 * Faults and mutants are chosen with -D; scripts/model.py has the list.
 */

#ifndef TURNS
#define TURNS 4
#endif
#ifndef PROCESSES
#define PROCESSES 3
#endif
#ifndef REVOKERS
#define REVOKERS 1
#endif
#define THREADS (TURNS + REVOKERS)      /* threads 1 to TURNS are turns, then come the revokers */
#define NUMBERS (TURNS + 3 * REVOKERS)  /* inode numbers; that they suffice is asserted */
#define BIT(turn) (1 << (turn))
#define EVERY_TURN (BIT(TURNS + 1) - 2)
#define IS_TURN(thread) ((thread) <= TURNS)

mtype = { stale, over_limit, markers, entry, terminal_entry };

/* ---- the file system ---- */
byte lock;                      /* the inode that the lock path names; 0: nothing */
byte guard;                     /* the thread that has the guard; 0: nobody */
byte turn_of[NUMBERS + 1];      /* a claim's turnId; 0: none, who made it only cleans up */
byte owed_of[NUMBERS + 1];      /* its supersedes: a mask of turns */
byte flock_of[NUMBERS + 1];     /* the thread that has the flock on it */
bool lives[NUMBERS + 1];        /* ghost: whether its holder does */
bool late;                      /* the clock: its limit and the grace have passed */
/* Open descriptors keep the number of their inode; one with neither name nor descriptor returns. */
byte claim[THREADS + 1];        /* FileLease.claim */
byte judged[THREADS + 1];       /* Judged.handle */

/* ---- the transcript, as far as order goes. An epoch is the number of an opening. ---- */
byte epoch;                     /* the highest */
byte open_turn;                 /* the turn that it ends with, if that has no terminal entry */
byte ended;                     /* turns with a terminal entry */
byte known;                     /* threads that know its end: lease.tail.size is its size */

/* ---- turns/queue.py, turns/lease.py ---- */
byte started;                   /* turns 1 to this came to the head of their process's queue */
byte heads;                     /* those that are there still */
byte held;                      /* turns whose lease is HELD or ENDING */
byte target[THREADS + 1];       /* the turn that a revoker takes the session from */

/* ---- ghosts: nothing in the protocol reads them ---- */
byte fenced;                    /* turns that must not write any more */
byte over;                      /* turns that do nothing any more */
byte due;                       /* superseded turns that must still get a marker */
byte unsynced;                  /* turns with a write that no fsync of theirs has followed */
byte served;                    /* turns that had the session, or are beyond wanting it */
bool by_hand;                   /* the lock was removed while somebody was between check and act */

hidden byte n, i;               /* scratch of one step */

#define SAY(words) printf words
#define HEADS ((heads >> 1 & 1) + (heads >> 2 & 1) + (heads >> 3 & 1) + (heads >> 4 & 1))
#define OWES (owed_of[claim[me]] & ~ended)
#define OWES_ALONE (OWES & ~BIT(open_turn))     /* an open turn needs no claim that says so */

#include "mutants.pml"

/* ---- inodes ---- */

/* Nursery.make: unnamed, flocked, written in full, so that it is whole when it gets a name. Its number
 * is the lowest that is free: of its maker's own few, or, where numbers come back, of all. (The first
 * is enough as long as nobody compares a number whose inode it does not keep open.) */
inline bear(turn, owed) {
    n = FIRST_NUMBER(me);
    do
    :: n <= NUMBERS ->
        i = 1;
        do
        :: i <= THREADS && lock != n && !(claim[i] == n && OPEN(i)) &&
           !(judged[i] == n && JUDGED_OPEN(i)) -> i++
        :: else -> break
        od;
        if
        :: i > THREADS -> break
        :: else -> n++
        fi
    :: else -> assert(false)
    od;
    owed_of[n] = owed;
    turn_of[n] = turn;
    flock_of[n] = FLOCKED_AT_BIRTH;
    lives[n] = true;
    claim[me] = n
}

inline forget(inode) {          /* what is in a file matters as long as the lock path names it */
    turn_of[inode] = 0;
    owed_of[inode] = 0;
    flock_of[inode] = 0;
    lives[inode] = false;
    late = false
}

inline close_judged(thread) {
    if
    :: judged[thread] != 0 && flock_of[judged[thread]] == thread && claim[thread] != judged[thread] ->
        flock_of[judged[thread]] = 0
    :: else
    fi;
    judged[thread] = 0
}

inline unlock_claim(thread) {
    if
    :: claim[thread] != 0 && flock_of[claim[thread]] == thread ->
        flock_of[claim[thread]] = 0;
        lives[claim[thread]] = false
    :: else
    fi
}

inline close_claim(thread) {
    unlock_claim(thread);
    claim[thread] = 0
}

inline drop_guard(thread) {
    if
    :: guard == thread -> guard = 0; by_hand = false
    :: else
    fi
}

/* The end of a turn, or the death of a process: the kernel closes and unlocks what it had. */
inline end_turn(turn) {
    held = held & ~BIT(turn);
    heads = heads & ~BIT(turn);
    fenced = fenced & ~BIT(turn);
    unsynced = unsynced & ~BIT(turn);
    over = over | BIT(turn);
    served = served | BIT(turn)
}

inline die(thread) {
    drop_guard(thread);
    close_judged(thread);
    close_claim(thread);
    target[thread] = 0;
    known = known & ~BIT(thread);
    if
    :: IS_TURN(thread) -> end_turn(thread)
    :: else
    fi
}

/* ---- the transcript ---- */

#ifndef KNOWN_OPEN              /* what a lease knows of the end is true, or END_MOVED and not used */
#define KNOWN_EPOCH epoch
#define KNOWN_OPEN open_turn
#define KNOWN_ENDED ended
#define END_MOVED !(known & BIT(me))
inline know_end() { known = known | BIT(me) }
#endif

inline opening(turn) {
    assert(open_turn == 0 && !(ended & BIT(turn)));     /* I1, I6 */
    assert(KNOWN_EPOCH == epoch);                       /* I2: its number is one above the highest */
    epoch++;
    open_turn = turn;
    know_end()
}

inline line_of(turn) {
    assert(open_turn == turn && !(ended & BIT(turn)))   /* I1, I6 */
}

inline terminal(turn) {
    line_of(turn);
    ended = ended | BIT(turn);
    due = due & ~BIT(turn);
    open_turn = 0;
    know_end()
}

inline marker(turn) {
    assert((fenced | over) & BIT(turn));                /* I6: fence, then marker */
    terminal(turn)
}

/* Writer._render: what predecessors owe, the turn's opening, its line. Turn 0 has neither. The buffer
 * may reach the file in part: its process is killed in mid-write, or the disk is full. */
inline lines(turn) {
    assert(lock == claim[me] || by_hand);               /* I3: it has the lock as it writes */
    if :: true OR_BREAKS_OFF fi;
    if
    :: KNOWN_OPEN != 0 && KNOWN_OPEN != turn ->
        d_step { n = KNOWN_OPEN; marker(n) };
        if :: true OR_BREAKS_OFF fi
    :: else
    fi;
    u = 1;
    do
    :: u <= TURNS && u != turn && (owed_of[claim[me]] & ~KNOWN_ENDED & BIT(u)) ->
        d_step { opening(u) };
        if :: true OR_BREAKS_OFF fi;
        d_step { marker(u); u++ };
        if :: true OR_BREAKS_OFF fi
    :: u <= TURNS && (u == turn || !(owed_of[claim[me]] & ~KNOWN_ENDED & BIT(u))) -> u++
    :: else -> u = 0; break
    od;
    if
    :: what != markers && KNOWN_OPEN != turn ->
        d_step { opening(turn) };
        if :: true OR_BREAKS_OFF fi
    :: else
    fi;
    if
    :: what == entry -> line_of(turn)
    :: what == terminal_entry -> d_step { terminal(turn) }
    :: else
    fi
}

inline written(turn) {          /* Writer._write is through, well or badly: other tails are old now */
    u = 0;
    known = known & BIT(me);
    unsynced = (unsynced | BIT(turn)) & EVERY_TURN;
    DROP_GUARD_AFTER_WRITE
}

/* Beginning.begin: the end is read, then compared under the guard, until it did not move in between:
 * in effect both at once. From here until this lease ends, nobody else may write. */
inline begin() {
    know_end();
    i = 1;
    do
    :: i <= TURNS ->
        if
        :: i != me && claim[i] != 0 && !(over & BIT(i)) -> fenced = fenced | BIT(i)
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* Inspector.look: open(2), flock(2) exclusively and at once, then judge() from what never changes. One
 * step: of an inode that loses its name in between nothing comes but another try. */
inline judge(as) {
    verdict = as;
    judged[me] = lock;
    u = (BIT(turn_of[lock]) & EVERY_TURN) | INHERITED;
    if
    :: as == stale -> flock_of[lock] = me
    :: else
    fi
}

/* ---- what changes the name of a claim, between a check under the guard and the guard's end ---- */

/* Claims.supersede: take the guard, then ask what the path names. One step, as the flock may as well
 * be thought at the moment of the question: whoever needs no guard acts as well before both. */
inline check_judged() {
    if
    :: GUARD_TO_SUPERSEDE;
        if
        :: SUPERSEDES(lock == judged[me])
        :: else ->
            d_step { drop_guard(me); close_judged(me); verdict = 0; u = 0 };
            SAY(("%d finds that it is not there any more\n", me));
            goto GONE
        fi
    OR_DIES
    fi;
    SAY(("%d has the guard; the path names what it judged\n", me))
}

/* rename(2), LOCK_UN, close of the judged claim. Whoever needs the guard may as well act after all
 * three; and the old inode has no name any more, so that its flock tells nobody anything. */
inline rename_over(turn) {
    /* I9: what is taken is what was judged, and not from one that lives within its limit. (Whoever
     * removes a lock by hand in this very moment may have the next one taken as well.) */
    assert(lock == judged[me] || by_hand);
    assert(lock != judged[me] || verdict != stale || !lives[lock]);
    assert(lock != judged[me] || target[me] == 0 || turn_of[lock] == target[me]);
    fenced = (fenced | BIT(turn_of[lock])) & EVERY_TURN & ~over;
    if
    :: lock == judged[me] -> due = due | (BIT(turn_of[lock]) & EVERY_TURN & ~ended)
    :: else
    fi;
    i = lock;
    lock = 0;
    forget(i);
    bear(turn, u);
    lock = claim[me];
    close_judged(me);
    u = 0;
    verdict = 0;
    drop_guard(me)
}

/* unlink(2), LOCK_UN. */
inline unlink_claim() {
    assert(lock == claim[me] || lock == 0 || by_hand);          /* I10: nobody else's */
    assert(lock != claim[me] || !(due & ~BIT(open_turn)));      /* no marker goes with it */
    forget(lock);
    lock = 0;
    drop_guard(me)
}

/* FilesBackend.release, or leave_owing, when only this claim says who is owed a marker. */
#define MUST_LEAVE (LEAVES_OWING && lock == claim[me] && OWES_ALONE)
inline release() {
    atomic {
        if
        :: MUST_LEAVE ->
            d_step { unlock_claim(me) };
            SAY(("%d leaves its claim behind, owing\n", me));
            goto DONE
        :: !MUST_LEAVE && GUARD_TO_RELEASE;
            if
            :: RELEASES
            :: else -> d_step { drop_guard(me) }; goto DONE
            fi
        OR_DIES
        fi;
        SAY(("%d has the guard, and is to unlink its claim\n", me))
    };
    atomic {
        if
        :: d_step { unlink_claim() }
        OR_DIES
        fi;
        SAY(("%d unlinks its claim\n", me))
    }
}

/* A turn whose revoker still compares its claim stays an object until that is through. */
inline retire(turn) {
    end_turn(turn);
    i = TURNS + 1;
    do
    :: i <= THREADS && target[i] != turn -> i++
    :: else -> break
    od;
    if
    :: i > THREADS -> known = known & ~BIT(turn); close_claim(turn)
    :: else
    fi
}

/* ---- a turn, in a thread ---- */

/* Turns are told apart by nothing but the order of their first step, so that one order does for all. */
#define MAY_TAKE (started >= me || (started == me - 1 && HEADS < PROCESSES))
inline come_to_head() {
    if
    :: started < me -> started = me; heads = heads | BIT(me)
    :: else
    fi
}

proctype Turn(byte me) {
    byte u;                                             /* what the judged claim owes */
    bool woken;
    mtype verdict, what;

GONE:
TAKE:
    atomic {
        if
        :: MAY_TAKE && lock == 0 ->                     /* Claims.put: link(2) */
            d_step { come_to_head(); bear(me, 0); lock = claim[me] };
            SAY(("%d puts down its claim, inode %d\n", me, lock));
            goto BEGIN
        /* Live and within its limit: it waits, which is to do nothing until that has changed. */
        IS_FREE
        :: MAY_TAKE && JUDGE_FREE && lock != 0 && LOOKS_DEAD && WOKEN ->
            d_step { come_to_head(); judge(stale) }
        :: MAY_TAKE && JUDGE_FREE && lock != 0 && !(LOOKS_DEAD) && LOOKS_LATE ->
            d_step { come_to_head(); judge(over_limit) }
        OR_DIES_IN_QUEUE
        fi;
        SAY(("%d finds inode %d %e\n", me, lock, verdict))
    BETWEEN_JUDGEMENT_AND_GUARD
        check_judged()
    };
    atomic {
        if
        :: d_step { RENAME_OVER(me) }
        OR_DIES
        fi;
        SAY(("%d renames its claim, inode %d, over it\n", me, lock));
        AFTER_RENAME
        goto BEGIN
    };
PROBED:                     /* and drops the flock again */
    atomic {
        if
        :: DROPS_PROBE -> d_step { close_judged(me) }; goto TAKE
        OR_DIES
        fi
    };
BEGIN:
    atomic {
        if
        :: BEGIN_GUARD_FREE ->
            if
            :: lock == claim[me]
            :: else -> SAY(("%d lost its claim before it began\n", me)); LOST_AT_BEGIN
            fi
        OR_DIES
        fi;
        d_step { begin(); AFTER_BEGIN; held = held | BIT(me); served = served | BIT(me) };
        SAY(("%d has the session\n", me));
        if
        :: goto RELEASE                                 /* its waiter has given up meanwhile */
        :: OWES || open_turn != 0 -> what = markers
        :: !(OWES || open_turn != 0)
        fi
    };
WORK:
    atomic {
        if
        :: GUARD_TO_APPEND;
            if
            :: lock == claim[me] && what == 0 && MAY_WRITE_MORE -> what = entry
            :: lock == claim[me] && what == 0 -> END_THE_TURN               /* well, or not */
            :: lock == claim[me] && what != 0                               /* it settles */
            :: lock != claim[me] ->
                d_step { drop_guard(me); what = 0 };
                SAY(("%d is refused by the fence\n", me));
                goto DONE
            fi;
            SAY(("%d has the guard and its claim, and is to write %e\n", me, what))
        :: what == 0 && open_turn != me && guard == 0 -> goto RELEASE       /* it wrote nothing */
        OR_DIES
        fi
    };
    atomic {
        BEFORE_WRITE
        if
        :: END_MOVED -> d_step { know_end(); drop_guard(me); what = 0 }; goto WORK      /* TailMoved */
        :: else
        fi;
        assert(!(fenced & BIT(me)));                    /* I3 */
        lines(me);
        d_step { written(me) };
        SAY(("%d has written %e\n", me, what))
    BETWEEN_WRITE_AND_FSYNC
        if                                              /* fdatasync, outside of the guard */
        :: FSYNC
        OR_DIES
        OR_HANGS
        OR_FSYNC_FAILS
        fi;
        AFTER_FSYNC
        assert(!(unsynced & BIT(me)));                  /* I4: append returns, which acknowledges */
        if
        :: what == terminal_entry -> what = 0; goto RELEASE
        :: what != terminal_entry -> what = 0; goto WORK
        fi
    };
FAILED:                                                 /* what is in the file now is unknown */
    atomic {
        d_step { written(me); known = known & ~BIT(me) };
        if
        :: what == terminal_entry -> what = 0
        :: what != terminal_entry -> what = 0; goto WORK
        fi
    };
RELEASE:
    release();
    AFTER_UNLINK
DONE:
    atomic { d_step { what = 0; retire(me) } };
end:
end_stopped:
    false
}

/* ---- who takes the session from a turn: its watchdog's worker, an operator, clean-up ---- */

proctype Revoker(byte me) {
    byte u;
    mtype verdict, what;
end:
    atomic {
        if
        :: held & BIT(1) -> target[me] = 1              /* Lease.move(REVOKING), at any time */
        :: held & BIT(2) -> target[me] = 2
        :: held & BIT(3) -> target[me] = 3
        :: held & BIT(4) -> target[me] = 4
        OR_OPERATES
        OR_IS_STOPPED
        fi;
        SAY(("%d is to revoke turn %d\n", me, target[me]))
    };
    BEFORE_FENCE
    atomic {                                            /* Inspector.look, and whose claim it is */
        if
        :: JUDGE_FREE && (lock == 0 || (target[me] != 0 && lock != claim[target[me]])) -> goto DONE
        :: JUDGE_FREE && lock != 0 && (target[me] == 0 || lock == claim[target[me]]) ->
            if
            :: LOOKS_DEAD -> d_step { judge(stale) }
            :: else -> d_step { judge(over_limit) }
            fi
        fi
    BETWEEN_JUDGEMENT_AND_GUARD
        check_judged()
    };
    atomic {
        if
        :: d_step { rename_over(0) }
        OR_DIES
        fi;
        SAY(("%d renames its claim, inode %d, over it\n", me, lock));
        heads = heads & ~BIT(target[me])                /* the queue goes on after a second at most */
    };
    atomic {
        if
        :: BEGIN_GUARD_FREE ->
            if
            :: lock == claim[me] -> d_step { begin() }
            :: else -> goto DONE
            fi
        OR_DIES
        fi;
        if
        :: OWES || open_turn != 0 -> what = markers
        :: !(OWES || open_turn != 0) -> goto RELEASE
        fi
    };
SETTLE:
    atomic {
        if
        :: GUARD_TO_APPEND;
            if
            :: lock == claim[me]
            :: else -> d_step { drop_guard(me) }; goto DONE
            fi
        OR_DIES
        fi
    };
    atomic {
        if
        :: END_MOVED -> d_step { know_end(); drop_guard(me) }; goto SETTLE
        :: else
        fi;
        lines(0);
        d_step { written(0) };
        what = 0;
        SAY(("%d has written what was owed\n", me));
        goto RELEASE
    };
FAILED:
    atomic { d_step { written(0); what = 0 } };
RELEASE:
    release();
GONE:
DONE:                                                   /* revoking._hand_over */
    atomic {
        d_step {
            what = 0;
            known = known & ~BIT(me);
            close_claim(me);
            heads = heads & ~BIT(target[me]);
            held = held & ~BIT(target[me]);
            u = target[me];
            target[me] = 0;
            if
            :: over & BIT(u) -> retire(u)
            :: else
            fi;
            u = 0
        };
        goto end
    };
end_stopped:
    false
}

init {
    atomic {
        run Turn(1); run Turn(2);
#if TURNS > 2
        run Turn(3);
#endif
#if TURNS > 3
        run Turn(4);
#endif
        run Revoker(TURNS + 1)
#if REVOKERS > 1
        ; run Revoker(TURNS + 2)
#endif
    };
end:
    do
    CLOCK
#ifdef THIRD
    :: lock != 0 -> d_step { forget(lock); lock = 0; due = 0; by_hand = (guard != 0) };
        SAY(("a third party removes the lock file\n"))
#endif
    od
}

#ifdef FAIR
ltl everybody_is_served { <> (served == EVERY_TURN) }
#endif
