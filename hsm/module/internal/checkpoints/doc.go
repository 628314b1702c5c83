// Package checkpoints remembers, for each audit log, the last tree that the modules of a host
// have signed, so that they sign none that contradicts it. A log that is rewritten, cut or shown
// in two histories gets no signature, whatever became of the front that keeps it.
//
// The modules share one file, which the front never gets. The supervisor makes it ([Create]) and
// hands its descriptor to each.
//
// # Layout
//
// Two slots of the same form, each with a counter and a checksum (CRC-32C). What changes is
// written to the older slot, and is on the disk before the signature is made: a loss of power
// leaves the newer state or the one before, of which nothing was signed yet. A file whose slots
// are both damaged is not believed, and nothing is signed until somebody moves it away; it then
// begins anew, and each log with the first tree that is shown of it.
//
// There is room for 64 logs. None is forgotten.
package checkpoints
