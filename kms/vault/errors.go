package vault

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/imprint-oci/imprint/kms"
)

// explain says why an operation ("keys", "sign") failed.
func (e *engine) explain(operation string, answer *api.Response, err error) error {
	var refused *api.ResponseError
	switch {
	case errors.As(err, &refused):
		return e.refusal(operation, answer, refused)
	case errors.Is(err, kms.ErrTooLong):
		return kms.Service("reading what %s says of %s: %w (%d bytes are read)", e.at(), e.path(operation), kms.ErrTooLong, maxAnswer)
	}
	return kms.Failure(kms.CodeUnreachable, e.wayThere(err), "reaching %s: %w", e.at(), kms.WithoutURL(err))
}

// wayThere says what may be wrong between here and the server.
func (e *engine) wayThere(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &authority):
		return "set " + e.names.either("CACERT") + " to the file with the certificate of the CA that issued the server's"
	case errors.As(err, &host):
		return "the server's certificate is for another name: set " + e.names.either("ADDR") + " to that, or " + e.names.either("TLS_SERVER_NAME")
	case errors.As(err, &invalid):
		return "the server's certificate needs renewing; check this machine's clock"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &header):
		return "the server does not speak TLS at that port: write http:// in " + e.names.either("ADDR")
	case errors.As(err, &alert):
		return "the server may want a client's certificate: " + e.names.either("CLIENT_CERT", "CLIENT_KEY")
	}
	return "check the network, HTTPS_PROXY and " + e.names.either("ADDR") + " (now " + e.place.address + ")"
}

// refusal explains an HTTP status and the texts that came with it, as OpenBao v2.6.2 and Vault send them.
func (e *engine) refusal(operation string, answer *api.Response, r *api.ResponseError) error {
	text := e.text(r.Errors)
	says := func(fragments ...string) bool {
		for _, f := range fragments {
			if strings.Contains(text, f) {
				return true
			}
		}
		return false
	}
	switch r.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return e.forbidden(operation, text)
	case http.StatusBadRequest:
		switch {
		case says("missing client token"):
			return e.forbidden(operation, text)
		case says("signing key not found"):
			return e.missing(operation, text)
		case says("HTTP request to an HTTPS server"):
			return kms.Failure(kms.CodeUnreachable, "the server speaks TLS at that port: write https:// in "+e.names.either("ADDR"), "reaching %s: %s", e.at(), text)
		}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return e.missing(operation, text)
	case http.StatusTooManyRequests:
		return &kms.Error{Code: kms.CodeThrottled, Class: kms.ErrService, Err: e.said(operation, r, text), Temporary: true, After: after(answer),
			Remedy: "run it again later with fewer --jobs; `" + e.names.tool + " list sys/quotas/rate-limit` shows the quotas"}
	case http.StatusPreconditionFailed:
		// A standby that has not seen the last write yet.
		return &kms.Error{Code: kms.CodeService, Class: kms.ErrService, Err: e.said(operation, r, text), Temporary: true}
	case http.StatusServiceUnavailable:
		if says("sealed") {
			return kms.Failure(kms.CodeUnreachable, "unseal it: `"+e.names.tool+" operator unseal`", "asking %s about %s: %s", e.at(), e.path(operation), text)
		}
		return &kms.Error{Code: kms.CodeService, Class: kms.ErrService, Err: e.said(operation, r, text), Temporary: true, After: after(answer)}
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return kms.Failure(kms.CodeUnreachable, e.wayThere(nil), "%w", e.said(operation, r, text))
	}
	switch {
	case says("less than the minimum encryption key version"):
		return kms.Failure(kms.CodeUnusable, e.lowerMinimum(e.place.version), "%w", e.said(operation, r, text))
	case says("higher than the latest key version", "version for signing is", "soft deleted", "soft-deleted", "does not contain a private part",
		"not supported for key type", "unable to find requested key version"):
		return kms.Failure(kms.CodeUnusable, "`"+e.names.tool+" read "+e.path("keys")+"` shows the key's state and its versions", "%w", e.said(operation, r, text))
	}
	return kms.Failure(kms.CodeService, "", "%w", e.said(operation, r, text))
}

// said is what the server answered.
func (e *engine) said(operation string, r *api.ResponseError, text string) error {
	if text == "" {
		text = "nothing more"
	}
	return fmt.Errorf("%s answered about %s with status %d: %s", e.at(), e.path(operation), r.StatusCode, text)
}

// forbidden tells a missing token, one that counts no longer, and one that may not.
func (e *engine) forbidden(operation, text string) error {
	log := "run `" + e.names.tool + " login`"
	switch {
	case e.token == "":
		return kms.Failure(kms.CodeCredentials, "set "+e.names.either("TOKEN")+", or "+log, "there is no token for %s", e.at())
	case strings.Contains(text, "invalid token"):
		return kms.Failure(kms.CodeExpired, "log in again: "+log+", or renew "+e.names.either("TOKEN")+"; the token has expired, was revoked, or is of another server",
			"%s does not know the token: %s", e.at(), text)
	case operation == "keys":
		return kms.Failure(kms.CodeDenied, "allow it in the token's policy: "+e.policy("keys", "read")+"; or name the version in the URI and give --chain: then "+
			e.policy("sign", "update")+" is enough", "%s denies reading %s: %s", e.at(), e.path("keys"), text)
	}
	return kms.Failure(kms.CodeDenied, "allow it in the token's policy: "+e.policy("sign", "update"), "%s denies signing with %s: %s", e.at(), e.path("sign"), text)
}

func (e *engine) policy(operation, capability string) string {
	return fmt.Sprintf(`path "%s" { capabilities = ["%s"] }`, e.path(operation), capability)
}

// missing tells a mount that is not there from a key that is not.
func (e *engine) missing(operation, text string) error {
	where := "check the mount and the namespace (?mount=, ?namespace= or " + e.names.either("NAMESPACE") + "): "
	if text != "" && !strings.Contains(text, "key not found") {
		return kms.Failure(kms.CodeNotFound, where+"`"+e.names.tool+" secrets list` shows what there is",
			"%s has no transit engine at the mount %s: %s", e.at(), e.place.mount, text)
	}
	return kms.Failure(kms.CodeNotFound, where+"`"+e.names.tool+" list "+e.place.mount+"/keys` shows what there is",
		"%s has no key %s in the transit engine at the mount %s", e.at(), e.place.name, e.place.mount)
}

// odd is an answer that is neither a success nor a refusal.
func (e *engine) odd(operation string, answer *api.Response) error {
	if answer.StatusCode/100 != 3 {
		return kms.Failure(kms.CodeService, "", "%s answered about %s with status %d", e.at(), e.path(operation), answer.StatusCode)
	}
	to := "elsewhere"
	if u, err := answer.Location(); err == nil && u.Host != "" {
		to = kms.Text((&url.URL{Scheme: u.Scheme, Host: u.Host}).String())
	}
	return kms.Failure(kms.CodeUnreachable, "if that is your server: set "+e.names.either("ADDR")+" to "+to,
		"%s points to %s, where the token is not sent", e.at(), to)
}

// after is how long the server asks to wait.
func after(answer *api.Response) time.Duration {
	if answer == nil || answer.Response == nil {
		return 0
	}
	return kms.RetryAfter(answer.Header)
}

// counted is how the servers begin a list of errors.
var counted = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\d+ errors? occurred:`) })

// text makes one line of the errors in an answer.
func (e *engine) text(errs []string) string {
	var parts []string
	for _, s := range errs {
		s = counted().ReplaceAllString(strings.TrimSpace(s), "")
		for line := range strings.SplitSeq(s, "\n") {
			if line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "* ")); line != "" {
				parts = append(parts, line)
			}
		}
	}
	text := strings.Join(parts, ", ")
	if e.token != "" {
		text = strings.ReplaceAll(text, e.token, "[token]")
	}
	return kms.Text(text)
}
