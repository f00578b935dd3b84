// Package jet is NATS JetStream behind the log of the write queue: embedded in
// this process by default, one of three linked over TLS, or somebody else's.
//
// # What a caller can rely on
//
// An append that returned is on disk: fsynced before the acknowledgement
// (SyncAlways), on a majority where the stream has replicas. A frame is offered
// again, under one message id, until it is acknowledged or the caller's time is
// up; then the error says whether it can have been stored (queue.ErrInDoubt) or
// not (queue.ErrUnavailable, queue.ErrFull).
//
// The stream keeps everything until it is trimmed. When it is full, or its disk
// is, appends are refused and nothing is dropped. A stream has a generation,
// made at random when the stream is created; sequences of another generation
// mean nothing, and a log that has lost its stream behind our back can be told
// by it.
//
// # Why one message holds many writes
//
// A stream with one replica flushes once per message, however many clients
// publish: about 5,000 messages a second on the disk this was measured on. Two
// ways share a flush. Measured in one interleaved run, 1 KiB writes, medians
// of three, acknowledgements per second (p99):
//
//	                         1 client         16 clients        128 clients
//	bare file, shared flush  5,324 (0.3 ms)   28,908 (1.0 ms)   123,465 (4.3 ms)
//	message per write        4,862 (0.3 ms)    4,852 (7.8 ms)     6,815 (29 ms)
//	atomic batches             229 (5.4 ms)    3,099 (13 ms)     21,932 (10 ms)
//	frames, one on its way   4,484 (0.4 ms)   30,227 (1.2 ms)   116,003 (5.6 ms)
//	frames, two              4,574 (0.4 ms)   16,961 (1.9 ms)    98,201 (6.0 ms)
//
// On three linked nodes, all on one machine, acknowledgements per second by the
// number of frames that may be on their way at once:
//
//	           16 clients  128 clients
//	frames/1   9,775       60,827
//	frames/2   8,816       49,027
//	frames/3   8,013       39,082
//
// So package queue gathers writes into frames and this package stores a frame
// as one message. It also costs one encryption, one checksum and one entry in
// the index per frame instead of per write, and the window of message ids stays
// small. Atomic batches would give each write a sequence of its own; nobody
// needs that: the position of a write is its frame and its place in it.
//
// # Reading
//
// Readers ask for ranges by sequence (direct get, many messages an answer) and
// are woken by a tick after each append. There is no consumer whose state could
// be lost, and acknowledging is not a concept here: how far a reader is lies in
// the database it writes to.
package jet
