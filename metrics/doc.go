// Package metrics is what keyd tells Prometheus of itself.
//
// No label holds what a caller chose. Methods are those of the policies' table, reasons
// those of fault.Table, operations the messages of the hardware boundary, and the rest is
// written here; what is none of these is counted as "other". An identity is no label: the
// audit log has who asked, and a policy may let in whole fleets by one line, so that the
// number of series would be the callers' to choose. No metric has a PAN, a PIN block, a
// key's name or a key serial number.
//
// Times are in seconds, as Prometheus wants them, and times of the clock in Unix seconds.
// Counters begin anew with each front.
//
// Only the front uses this package.
package metrics
