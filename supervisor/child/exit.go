package child

// Exit statuses with a meaning for the supervisor. A child that ends with any other
// status, or by a signal, is started again.
const (
	// ExitPermanent (EX_CONFIG of sysexits.h) says that another start cannot help: a fault in
	// the configuration, a failed self-test, a wrong token PIN. It stops everything as
	// long as no child of its kind has been ready. Later a module is retired, since the
	// token would lock if it tried a wrong PIN again and again, and a front is started again.
	ExitPermanent = 78
	// ExitOrphaned is the status of a child whose supervisor has gone.
	ExitOrphaned = 75

	// ExitRenewed and ExitRenewedInPart are of a renew command: files of the front's have been
	// replaced, and are to be opened anew; with the latter something else has failed, which its
	// own messages say.
	ExitRenewed       = 10
	ExitRenewedInPart = 11
)
