package web

import (
	"net/http"
	"strings"
)

// contentPolicy lets a page load and ask what comes from its own host, and nothing else; texts become
// markup nowhere.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// off are what browsers can do and pages have no use for.
var off = []string{
	"accelerometer", "autoplay", "bluetooth", "browsing-topics", "camera", "clipboard-read", "clipboard-write", "compute-pressure",
	"cross-origin-isolated", "display-capture", "encrypted-media", "fullscreen", "gamepad", "geolocation", "gyroscope", "hid", "identity-credentials-get", "idle-detection",
	"interest-cohort", "keyboard-map", "local-fonts", "magnetometer", "microphone", "midi", "otp-credentials", "payment", "picture-in-picture", "screen-wake-lock", "serial",
	"storage-access", "sync-xhr", "usb", "web-share", "window-management", "xr-spatial-tracking",
}

var permissions = "publickey-credentials-get=(self), publickey-credentials-create=(self), " + strings.Join(off, "=(), ") + "=()"

// setHeaders sets what every answer has.
func (h *handler) setHeaders(header http.Header) {
	header.Set("Content-Security-Policy", contentPolicy)
	header.Set("Permissions-Policy", permissions)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if !h.config.local() { // it would count for everything else that is served on that machine
		header.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
