// Package backup is what a backup of keyd's database looks like, how one is written while keyd
// serves, and how one is read by somebody who does not believe it.
//
// A backup is one file:
//
//	"keyd backup 1\n"
//	frames: 1 byte   kind
//	        4 bytes  length of what follows, big-endian, at most [MaxFrame]
//	        n bytes  payload
//
// The first frame is the [Header]. Then come the items of the database, of one moment and in
// the order of [store.Backups.Export]; then the [Trailer], with their numbers and the register;
// then the seal ([ceremony.BackupSeal]): the token's signature, and a code by its master keys,
// of the SHA-256 of everything before it. After the seal comes nothing. Documents are in the
// one encoding of package ceremony, so that a backup that was read well is, byte for byte, what
// was written.
//
// Rules:
//   - There is no secret in a backup. Keys are sealed; receipts and receipt keys are left out,
//     as is what officers had decided at that very moment and no token had pinned.
//   - Nothing of a backup counts before [Reader.Next] has returned io.EOF, and nothing that is
//     not the front's own word before a module has checked the seal.
//   - Reader and writer hold one frame in memory, however many items there are.
//
// The front writes backups. Whoever has one can read it: it discloses names and headers of
// keys, aliases, tags, how often keys are used, papers and records of ceremonies, the roster,
// the policy, and the terminals' initial key IDs and counters.
package backup
