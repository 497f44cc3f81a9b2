/* One job, its feed, two nodes that follow it, and clients that move between them, while
 * Redis is restarted without its last writes and the feed is trimmed. For Spin:
 *
 *     spin -a progress.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan -m100000
 *
 * Checked, in every order of the steps below:
 *
 *     identity     a position (epoch, seq) is shown with one value only
 *     never back   to a client neither position nor value falls, over all its connections; who
 *                  asks a node after anybody was shown the end is told of the end
 *     the end      when nothing more happens, every client has what Redis has
 *
 * A value stands for the state of the attempt: 0 unknown, 1 … END; END is the final state.
 * Each `atomic` is one step of the program: a script in Redis, an answer that arrives, a turn
 * of a node between two awaits.
 *
 * What it leaves out: the clock (an epoch is new because the clock or the nodes say so, here a
 * counter that no rollback touches), attempts, leases, pages of the history, nodes that are
 * killed, and nodes that stay away for longer than `GRACE`.
 *
 * Each of these leaves one protection out; then the check must fail (tests/formal):
 *     NO_MERGE       a snapshot is not merged with the feed by its position
 *     NO_RESTORE     nodes do not bring back what they have shown
 *     NO_GENERATION  a restarted Redis goes on with the positions it remembers
 *     OPEN_AT_ONCE   a node does not wait for the others' restores
 *     OLD_ANSWERS    an answer from before a takeover is taken after it
 *     ANY_SERVER     calls are made to a server that is not taken over yet
 *     NO_HOLES       a feed that was trimmed is read on as if nothing were missing
 *     SHOW_PAST      a client that is newer than its node is shown what the node has
 */

#define NODES 2
#ifndef END
#define END 2        /* updates that the worker makes; the last is the end */
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 1
#endif
#ifndef TRIMS
#define TRIMS 1
#endif
#ifndef MOVES
#define MOVES 1      /* how often the client goes to another node */
#endif
#ifndef READS
#define READS 1      /* how often somebody asks a node */
#endif
#define FEED 10      /* entries at most, of all generations */
#define EPOCHS 10

typedef Place { byte epoch; byte seq; byte value }

#define ABOVE(a, b) (a.epoch > b.epoch || (a.epoch == b.epoch && a.seq > b.seq))
#define SAME(a, b) (a.epoch == b.epoch && a.seq == b.seq)
#define COPY(to, from) to.epoch = from.epoch; to.seq = from.seq; to.value = from.value

/* Redis: what it has now, and what it had when the past that it may return to was saved */
Place record, saved_record;
Place feed[FEED];
byte feed_end, saved_feed_end;      /* entries written */
byte feed_begin;                    /* entries trimmed */
byte generation, saved_generation;  /* records of earlier epochs are of the past */
byte server = 1;                    /* its identity */
byte taken_over, saved_taken_over;  /* which server the nodes have taken over */
bool restored[NODES], saved_restored[NODES];
byte clock;                         /* the newest epoch */
byte said;                          /* the newest value that the worker knows is there */

/* A node */
Place topic[NODES];
bool loading[NODES] = true;
bool to_load[NODES] = true;
bool settled[NODES];                /* calls may be made, to this server and generation: */
byte settled_server[NODES], settled_generation[NODES];
byte cursor[NODES];                 /* how far it has read the feed */

/* A client, and what anybody was shown */
Place shown;
byte at = 0;                        /* its node */
bool newer;                         /* it says that it has seen more than its node */
bool end_was_shown;
byte seen[EPOCHS * 8];              /* by position: the value, or 0 */

byte rollbacks, trims, moves, reads, working = 1;

inline write(new_value, anew) {
    /* commit of record.lua: the next position, and an entry of the feed */
    if
    :: record.epoch == 0 || record.epoch < generation || anew ->
        clock++; record.epoch = clock; record.seq = 1
    :: else -> record.seq++
    fi;
    record.value = new_value;
    assert(feed_end < FEED && clock < EPOCHS && record.seq < 8);
    COPY(feed[feed_end], record);
    feed_end++
}

inline present(place) {
    assert(seen[place.epoch * 8 + place.seq] == 0 ||
           seen[place.epoch * 8 + place.seq] == place.value); /* identity */
    seen[place.epoch * 8 + place.seq] = place.value;
    if :: place.value == END -> end_was_shown = true :: else fi
}

inline append(n, place) {
    if :: ABOVE(place, topic[n]) -> COPY(topic[n], place) :: else fi
}

/* Whoever reports: to Redis itself, whichever server it is. Its last update is the end, which it
 * repeats until it is answered; afterwards it is gone. */
active proctype Worker() {
    byte value = 1;
    do
    :: value <= END ->
        atomic {
            if
            :: record.value < value -> write(value, false)
            :: else
            fi;
            value++
        }
    :: else -> break
    od;
    working = 0
}

active proctype Redis() {
    byte i;
    do
    :: atomic { rollbacks < ROLLBACKS && taken_over == server ->  /* a past is saved */
        COPY(saved_record, record);
        saved_feed_end = feed_end; saved_generation = generation;
        saved_taken_over = taken_over;
        saved_restored[0] = restored[0]; saved_restored[1] = restored[1];
        rollbacks++
      };
      atomic {  /* and later it is the present again, on a server that nobody knows */
        COPY(record, saved_record);
        feed_end = saved_feed_end; generation = saved_generation;
        taken_over = saved_taken_over;
        restored[0] = saved_restored[0]; restored[1] = saved_restored[1];
        if :: feed_begin > feed_end -> feed_begin = feed_end :: else fi;
        server++;
        saved_record.epoch = 0; saved_record.seq = 0; saved_record.value = 0;
        saved_feed_end = 0; saved_generation = 0; saved_taken_over = 0;
        saved_restored[0] = false; saved_restored[1] = false;
        for (i : 0 .. FEED - 1) {
            if :: i >= feed_end -> feed[i].epoch = 0; feed[i].seq = 0; feed[i].value = 0 :: else fi
        };
        i = 0
      }
    :: atomic { trims < TRIMS -> feed_begin = feed_end; trims++ }
    :: rollbacks == ROLLBACKS && trims == TRIMS -> break
    od
}

#define CONNECTED(n) (settled_server[n] == server)
#ifdef ANY_SERVER
#define MAY_CALL(n) (settled[n])
#else
#define MAY_CALL(n) (settled[n] && CONNECTED(n) && settled_generation[n] == generation)
#endif

proctype Poller(byte n) {
    Place observed;
    byte known;
end:
    do
    :: atomic { !CONNECTED(n) || settled_generation[n] != generation ->
        /* register: who comes first begins a generation (failover.lua) */
        if
        :: taken_over != server ->
            taken_over = server;
#ifndef NO_GENERATION
            clock++; generation = clock;
#endif
            restored[0] = false; restored[1] = false
        :: else
        fi;
        settled[n] = false; settled_server[n] = 0; known = server;
        COPY(observed, topic[n])
      };
      atomic {  /* restore.lua; nothing if another server answers by now */
        if
        :: known == server ->
#ifndef NO_RESTORE
            if
            :: observed.value > record.value -> write(observed.value, true)
            :: else
            fi;
#endif
            restored[n] = true
        :: else
        fi;
        observed.epoch = 0; observed.seq = 0; observed.value = 0
      };
      if
#ifdef OPEN_AT_ONCE
      :: atomic { known == server ->
#else
      :: atomic { known == server && restored[0] && restored[1] ->
#endif
        settled[n] = true; settled_server[n] = server; settled_generation[n] = generation;
        cursor[n] = feed_end;
        to_load[n] = true;  /* FEED_RESET */
        known = 0
        }
      :: known != server -> known = 0
      fi
    :: atomic { settled[n] && CONNECTED(n) && cursor[n] < feed_end ->
        if
        :: cursor[n] < feed_begin ->  /* something is missing: compare with Redis */
#ifdef NO_HOLES
            cursor[n] = feed_begin
#else
            cursor[n] = feed_end; to_load[n] = true
#endif
        :: else ->
            if
            :: feed[cursor[n]].epoch >= generation -> append(n, feed[cursor[n]])
            :: else
            fi;
            cursor[n]++
        fi
      }
    od
}

/* A read: the record as Redis has it; one of the past gets a new position first (reissue.lua). */
inline read_record(n, answer, asked) {
    if
    :: record.epoch != 0 && record.epoch < generation -> write(record.value, true)
    :: else
    fi;
    COPY(answer, record); asked = settled_server[n]
}

#ifdef OLD_ANSWERS
#define COUNTS(n, asked) (true)
#else
#define COUNTS(n, asked) (settled[n] && settled_server[n] == asked)
#endif

proctype Loader(byte n) {
    Place answer;
    byte asked;
end:
    do
    :: atomic { to_load[n] && MAY_CALL(n) -> to_load[n] = false; read_record(n, answer, asked) };
       atomic {
        if
        :: COUNTS(n, asked) ->
            loading[n] = false;
#ifdef NO_MERGE
            COPY(topic[n], answer);
#else
            append(n, answer);
#endif
            if :: at == n && !to_load[n] -> newer = false :: else fi
        :: else -> to_load[n] = true
        fi;
        asked = 0; answer.epoch = 0; answer.seq = 0; answer.value = 0
       }
    od
}

active proctype Client() {
end:
    do
    :: atomic { !loading[at] && !SAME(topic[at], shown) && (!newer || ABOVE(topic[at], shown)) ->
        assert(ABOVE(topic[at], shown));             /* never back */
        assert(topic[at].value >= shown.value);
        COPY(shown, topic[at]);
        present(shown)
      }
    :: atomic { moves < MOVES ->
        moves++; at = 1 - at; newer = false;
        if
        :: shown.epoch != 0 && (loading[at] || ABOVE(shown, topic[at])) ->
#ifndef SHOW_PAST
            newer = true;
#endif
            to_load[at] = true
        :: else
        fi
      }
    od
}

/* GET: it is told of the end, if anybody was shown it before. */
active proctype Reader() {
    Place answer;
    byte n, asked;
end:
    do
    :: atomic { reads < READS && end_was_shown ->
        reads++;
        if :: n = 0 :: n = 1 fi
      };
      atomic { MAY_CALL(n) -> read_record(n, answer, asked) };
      atomic {
        if
        :: COUNTS(n, asked) ->
            assert(answer.value == END)           /* never back */;
            if :: answer.epoch != 0 -> present(answer) :: else fi
        :: else                                      /* 503 */
        fi;
        asked = 0; answer.epoch = 0; answer.seq = 0; answer.value = 0
      }
    od
}

/* Nothing can happen any more: the client has what there is. */
active proctype Rest() {
    timeout;
    assert(shown.value == record.value && SAME(shown, record))
}

init {
    atomic { run Poller(0); run Poller(1); run Loader(0); run Loader(1) }
}
