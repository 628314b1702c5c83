// Package ceremony is what officers and a module say to each other about keys, and sign:
// the roster, the definition of what is to be done, the module's opening of a ceremony,
// the officers' statements, the transcript, and the epoch document in which a module
// keeps who its officers are and which keys they have brought in.
//
// Everything here is public: a component is in it only as it was sealed to a module
// ([SealComponent]). Officers' clients, modules and the front's key inventory all use
// this package; what is decided with it is decided in the module (package
// hsm/module/internal/quorum).
//
// Rules:
//   - Each document has one encoding, [Encode]: JSON without white space, fields in the
//     order of the type. [Decode] accepts nothing else, so that a digest names a document.
//   - What is signed is the encoded document behind a purpose of its own ([Sign]): a
//     signature under one kind of document is none under another.
//   - Digests are SHA-256, in documents as 64 lower-case hex digits. A [Fingerprint] is a
//     digest that people compare: upper-case hex in groups of four.
//   - Times are Unix seconds.
package ceremony
