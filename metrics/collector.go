package metrics

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyd/hsm"
	"keyd/server"
	"keyd/supervisor/child"
)

// askLimit bounds what a scrape waits for modules. One that does not answer is missing
// in the scrape.
const askLimit = time.Second

// Kinds of a register's version.
const (
	registerLoaded = "loaded"
	registerPinned = "pinned"
)

// phases are the states of a process.
var phases = []child.Phase{child.PhaseWaiting, child.PhaseStarting, child.PhaseReady, child.PhaseStopping, child.PhaseEnded}

// collector asks at each scrape.
type collector struct {
	s Sources

	build, policyInfo, policyLoaded, reloadFailed                   *prometheus.Desc
	certificate, tlsLoaded, authorities                             *prometheus.Desc
	vaultCertificate, vaultRenewal, vaultFailed                     *prometheus.Desc
	vaultProblem, vaultLooked                                       *prometheus.Desc
	connections, refused                                            *prometheus.Desc
	state, restarts                                                 *prometheus.Desc
	attached, load                                                  *prometheus.Desc
	auditEntries, auditWritable                                     *prometheus.Desc
	checkpoints, checkpointAt, uncovered                            *prometheus.Desc
	ksnAccepted, ksnSequences, ksnRows, ksnBytes, ksnFailing        *prometheus.Desc
	tokenCalls, tokenBlocks, tokenErrors, unsealed, derived         *prometheus.Desc
	entries, inUse, velocityRefused, crowded, presumed, tryingFails *prometheus.Desc
	register                                                        *prometheus.Desc
	pages                                                           *prometheus.Desc
	dropped, ends                                                   *prometheus.Desc
}

func newCollector(s Sources) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &collector{
		s:                s,
		build:            d("keyd_build_info", "1, with the version of keyd.", "version"),
		policyInfo:       d("keyd_policy_info", "1, with the SHA-256 of the policy in use.", "digest"),
		policyLoaded:     d("keyd_policy_loaded_timestamp_seconds", "When the policy in use was loaded."),
		reloadFailed:     d("keyd_reload_failed", "1 if the newest reload left the old in use: what is on disk is wrong, and a front that starts again would not start.", "what"),
		certificate:      d("keyd_tls_certificate_expiry_timestamp_seconds", "When the server certificate in use expires."),
		pages:            d("keyd_web_certificate_expiry_timestamp_seconds", "When the certificate of the pages for phones in use expires."),
		tlsLoaded:        d("keyd_tls_loaded_timestamp_seconds", "When certificate, key and client authorities in use were loaded."),
		authorities:      d("keyd_tls_client_authority_expiry_timestamp_seconds", "When the first of the client authorities in use expires."),
		vaultCertificate: d("keyd_vault_certificate_expiry_timestamp_seconds", "When a certificate that Vault's PKI keeps expires.", "directory", "server"),
		vaultRenewal:     d("keyd_vault_certificate_renewal_timestamp_seconds", "When a certificate that Vault's PKI keeps is to be renewed.", "directory", "server"),
		vaultFailed:      d("keyd_vault_certificate_failing", "1 while a certificate that Vault's PKI keeps could not be renewed.", "directory", "server"),
		vaultProblem:     d("keyd_vault_failing", "1 while Vault is of no use: it is away, refuses, or its login ends."),
		vaultLooked:      d("keyd_vault_looked_timestamp_seconds", "When the unlock process last looked whether something is to be renewed."),
		connections:      d("keyd_connections", "Connections of clients that are open."),
		refused:          d("keyd_connections_refused_total", "Connections that were refused in their handshake."),
		state:            d("keyd_process_state", "1 for the state that a process is in, 0 for the others.", "role", "module", "state"),
		restarts:         d("keyd_process_restarts_total", "How often a process was started again since the supervisor began.", "role", "module"),
		attached:         d("keyd_modules_attached", "Modules that can be asked."),
		load:             d("keyd_module_operations_in_flight", "Operations that a module has not answered yet, queued or carried out.", "module"),
		auditEntries:     d("keyd_audit_entries", "Entries of the audit log."),
		auditWritable:    d("keyd_audit_writable", "1 while the audit log can be written. Otherwise nothing is done."),
		checkpoints:      d("keyd_audit_checkpoints_total", "Checkpoints of the audit log that the modules were asked to sign, by result: made, or failed.", "result"),
		checkpointAt:     d("keyd_audit_checkpoint_timestamp_seconds", "When the newest checkpoint was made, or the front opened the log."),
		uncovered:        d("keyd_audit_uncovered_entries", "Entries of the audit log behind its newest checkpoint."),
		ksnAccepted:      d("keyd_ksn_accepted_total", "Requests whose key serial numbers were accepted."),
		ksnSequences:     d("keyd_ksn_sequences", "Sequences of key serial numbers in memory."),
		ksnRows:          d("keyd_ksn_journal_rows", "Rows of the journal of key serial numbers that are not folded yet."),
		ksnBytes:         d("keyd_ksn_journal_bytes", "Bytes of these rows."),
		ksnFailing:       d("keyd_ksn_failing", "1 while the record of key serial numbers cannot be written."),
		tokenCalls:       d("keyd_token_calls_total", "Calls of the token that operations made, by PKCS#11 function.", "module", "function"),
		tokenBlocks:      d("keyd_token_blocks_total", "Cipher blocks that went through these calls.", "module", "function"),
		tokenErrors:      d("keyd_token_errors_total", "Calls of the token that failed since the module was ready, by class of the return value.", "module", "class"),
		unsealed:         d("keyd_token_unsealed_keys", "Unsealed keys that a module keeps in the token.", "module"),
		derived:          d("keyd_token_derived_keys", "AES DUKPT derivation keys that a module keeps in the token.", "module"),
		entries:          d("keyd_velocity_entries", "Accounts for which the table of tries has room.", "module"),
		inUse:            d("keyd_velocity_entries_in_use", "Entries of the table of tries that are in use, about.", "module"),
		velocityRefused:  d("keyd_velocity_refusals_total", "Requests that a module refused because an account's tries were used up.", "module"),
		crowded:          d("keyd_velocity_crowded_total", "How often an account had to share an entry of the table of tries.", "module"),
		presumed:         d("keyd_velocity_presumed", "1 while tries are presumed that a loss of power may have hidden.", "module"),
		tryingFails:      d("keyd_velocity_failing", "1 while tries cannot be counted, and nothing is allowed that counts.", "module"),
		register:         d("keyd_register_version", "Version of the register of officers and keys, by kind: loaded is what a module goes by, 0 for none, and pinned the one that counts. Where they differ the module refuses every key.", "module", "kind"),
		ends:             d("keyd_terminal_keys_expiry_timestamp_seconds", "When something expires without which terminals get no keys, by what it is, and key host or issuer (the first 16 hex digits of SHA-256 of its key).", "document", "name"),
		dropped:          d("keyd_trace_spans_dropped_total", "Spans that were not exported: the queue was full, or the collector away."),
	}
}

// Describe implements [prometheus.Collector]. The metrics of modules come and go with them, so
// that none is described, and the collector is not checked.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) {
	e := emitter{out}
	e.gauge(c.build, 1, c.s.Version)
	c.collectInUse(e, c.s.InUse())
	c.collectProcesses(e, c.s.Processes())
	open, refused := c.s.Connections()
	e.gauge(c.connections, float64(open))
	e.count(c.refused, refused)

	e.gauge(c.auditEntries, float64(c.s.Audit.Head().Seq))
	e.flag(c.auditWritable, c.s.Audit.Err() == nil)
	signing := c.s.Audit.Signing()
	e.count(c.checkpoints, signing.Made, "made")
	e.count(c.checkpoints, signing.Failed, "failed")
	e.time(c.checkpointAt, signing.At)
	e.gauge(c.uncovered, float64(signing.Uncovered))
	k := c.s.Serials.Stats()
	e.count(c.ksnAccepted, k.Requests)
	e.gauge(c.ksnSequences, float64(k.Sequences))
	e.gauge(c.ksnRows, float64(k.JournalRows))
	e.gauge(c.ksnBytes, float64(k.JournalBytes))
	e.flag(c.ksnFailing, k.Failing != nil)

	loads := c.s.Modules.Loads()
	e.gauge(c.attached, float64(len(loads)))
	for _, l := range loads {
		e.gauge(c.load, float64(l.UnderWay), strconv.Itoa(l.Module))
	}
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	for _, d := range c.s.Modules.Describe(ctx) {
		c.collectModule(e, d)
	}
	if ends, err := c.s.Ends(ctx); err == nil { // the database may be away; hosts and issuers are few, and operators' own
		for _, end := range ends {
			e.time(c.ends, end.At, end.Kind, end.Name)
		}
	}
	if c.s.Dropped != nil {
		e.count(c.dropped, c.s.Dropped())
	}
}

func (c *collector) collectInUse(e emitter, u server.InUse) {
	e.gauge(c.policyInfo, 1, u.Policy.Digest)
	e.time(c.policyLoaded, u.Policy.LoadedAt)
	e.flag(c.reloadFailed, !u.Policy.Failed.At.IsZero(), ReloadPolicy)
	e.flag(c.reloadFailed, !u.TLS.Failed.At.IsZero(), ReloadTLS)
	e.time(c.certificate, u.TLS.NotAfter)
	e.time(c.tlsLoaded, u.TLS.LoadedAt)
	e.time(c.authorities, u.TLS.AuthoritiesUntil)
	if p := u.Pages; p != nil {
		e.flag(c.reloadFailed, !p.Failed.At.IsZero(), ReloadWeb)
		e.time(c.pages, p.NotAfter)
	}
	if v := u.Vault; v != nil {
		e.flag(c.vaultProblem, v.Problem != "")
		e.time(c.vaultLooked, v.At)
		for _, certificate := range v.Certificates { // directories stand in the configuration
			labels := []string{certificate.Name, strconv.FormatBool(certificate.Server)}
			e.time(c.vaultCertificate, certificate.NotAfter, labels...)
			e.time(c.vaultRenewal, certificate.RenewAt, labels...)
			e.flag(c.vaultFailed, certificate.Problem != "", labels...)
		}
	}
}

func (c *collector) collectProcesses(e emitter, list []child.ChildState) {
	for _, p := range list {
		module := ""
		if p.Role == child.RoleModule {
			module = strconv.Itoa(p.Index)
		}
		for _, phase := range phases {
			e.flag(c.state, p.Phase == phase, p.Role, module, string(phase))
		}
		e.count(c.restarts, uint64(max(p.Restarts, 0)), p.Role, module)
	}
}

func (c *collector) collectModule(e emitter, d hsm.Description) {
	module := strconv.Itoa(d.Module)
	e.gauge(c.register, float64(d.EpochLoaded), module, registerLoaded)
	e.gauge(c.register, float64(d.EpochPinned), module, registerPinned)
	for _, call := range d.Calls {
		e.count(c.tokenCalls, call.Count, module, known(call.Name))
		if call.Blocks > 0 {
			e.count(c.tokenBlocks, call.Blocks, module, known(call.Name))
		}
	}
	for _, failed := range d.Errors {
		e.count(c.tokenErrors, failed.Count, module, known(failed.Class))
	}
	e.gauge(c.unsealed, float64(d.CachedKeys), module)
	e.gauge(c.derived, float64(d.DerivedKeys), module)
	if v := d.Velocity; v != nil {
		e.gauge(c.entries, float64(v.Entries), module)
		e.gauge(c.inUse, float64(v.InUse), module)
		e.count(c.velocityRefused, v.Refusals, module)
		e.count(c.crowded, v.Crowded, module)
		e.flag(c.presumed, !v.PresumedUntil.IsZero(), module)
		e.flag(c.tryingFails, v.Failing != "", module)
	}
}

// known keeps a word of a module's for a label if it has the form of one: letters, digits,
// "_" and one blank, as in "C_Encrypt CKM_DES3_ECB". A module is trusted with more than
// that, but not with the number of series.
func known(name string) string {
	if len(name) == 0 || len(name) > 48 {
		return other
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != ' ' {
			return other
		}
	}
	return name
}

// emitter sends metrics.
type emitter struct{ out chan<- prometheus.Metric }

func (e emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e emitter) count(d *prometheus.Desc, n uint64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (e emitter) flag(d *prometheus.Desc, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	e.gauge(d, v, labels...)
}

// time leaves out what is not known.
func (e emitter) time(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		e.gauge(d, float64(t.Unix()), labels...)
	}
}
