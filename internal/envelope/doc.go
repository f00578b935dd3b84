// Package envelope seals what lies on disks and in stores that are not ours:
// the frames of the write queue, backups, secrets.
//
// Data is sealed with a data key (AES-256-GCM). The data key is wrapped by a
// master key and stored, wrapped, in front of what it sealed, with the master
// key's name. So anything sealed opens with nothing but the key file, in any
// order, on any node, as long as its master key is still in the file.
//
// # Rotation
//
// AddKey puts a new master key at the end of the file; from the next load on it
// seals, and the older ones only open. An old key may go when nothing names it
// any more (KeyName tells), or after Rewrap gave what it sealed a new head.
//
// # What is where
//
// Seal and Open are for things that fit in memory; NewWriter and NewReader for
// streams of any length, in chunks that cannot be reordered, dropped or cut off
// unnoticed. The purpose given to both sides keeps a sealed thing in its place.
package envelope
