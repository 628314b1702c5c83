// Package batch reads files of many terminals, and has them registered row by row.
//
// A file is CSV (RFC 4180) in UTF-8. Its first line names the columns, in any order: id, owner,
// model, serial, and where wanted site and certificate. A certificate is PEM in the cell itself
// or the path of a PEM file, relative to the CSV file's folder: the device's comes first, then
// its issuers.
//
// The package knows neither the service nor the database. It runs on an operator's machine.
package batch
