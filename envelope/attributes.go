package envelope

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Signing schemes.
const (
	SchemeX509             = "notary.x509"
	SchemeSigningAuthority = "notary.x509.signingAuthority"
)

// Names of attributes, the same in both formats (signature specification, "Signed attributes", "Unsigned attributes").
const (
	attrScheme        = "io.cncf.notary.signingScheme"
	attrSigningTime   = "io.cncf.notary.signingTime"
	attrAuthenticTime = "io.cncf.notary.authenticSigningTime"
	attrExpiry        = "io.cncf.notary.expiry"

	// What names the plugin without which no verifier can judge the signature; critical where they stand.
	attrPlugin        = "io.cncf.notary.verificationPlugin"
	attrPluginVersion = "io.cncf.notary.verificationPluginMinVersion"

	attrTimestamp = "io.cncf.notary.timestampSignature"
	attrAgent     = "io.cncf.notary.signingAgent"
)

// maxExtended limits the attributes that are carried without being understood. Signers write a handful; each is
// compared with every member of the unprotected header, of which 1 MiB holds some ten thousand.
const maxExtended = 256

// attributes are the signed attributes of an envelope of either format.
type attributes struct {
	algorithm   string
	contentType string
	critical    []string // nil: the header has no list
	scheme      string
	// The zero time means that the attribute is not there.
	signingTime, authenticTime, expiry time.Time
	extended                           []string // names of what is not known here
	plugin, pluginVersion              string   // values of two of these, "" if they are no texts
}

// check applies the rules that both formats share.
func (a attributes) check() error {
	switch a.algorithm {
	case "PS256", "PS384", "PS512", "ES256", "ES384", "ES512":
	default:
		return refuse(codeAlgorithm, "algorithm %q is not one of the Notary Project's", a.algorithm)
	}
	if err := a.checkCritical(); err != nil {
		return err
	}
	if len(a.extended) > maxExtended {
		return refuse(codeTooLarge, "the protected header has more than %d attributes that are not the Notary Project's", maxExtended)
	}
	for _, name := range a.extended {
		if !isExtension(name) {
			return refuse(codeAttribute, "unknown attribute %q in the protected header", name)
		}
	}
	if a.contentType != PayloadType {
		return refuse(codePayload, "content type %q is not that of a Notary Project payload", a.contentType)
	}
	return a.checkTimes()
}

// notePlugin keeps the value of an attribute that names a verification plugin. One that is no text is left empty, which is refused
// wherever such an attribute is not refused anyway.
func (a *attributes) notePlugin(name string, value func() (string, error)) {
	into := map[string]*string{attrPlugin: &a.plugin, attrPluginVersion: &a.pluginVersion}[name]
	if into == nil {
		return
	}
	if text, err := value(); err == nil {
		*into = text
	}
}

var (
	pluginName    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`) })
	pluginVersion = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+([-+][A-Za-z0-9.+-]{1,64})?$`)
	})
)

// checkMade is [attributes.check] for an envelope that was made for us just now: it may name the plugin that is needed to verify it, and
// mark attributes as critical for that plugin (signature specification, "Extended attributes for Notation Plugins"). Nothing else is
// let off, and no envelope that was read from anywhere.
func (a attributes) checkMade() error {
	if !slices.Contains(a.extended, attrPlugin) {
		return a.check()
	}
	seen := map[string]bool{}
	for _, name := range a.critical {
		if seen[name] {
			return refuse(codeCritical, "critical attribute %q is listed twice", name)
		}
		seen[name] = true
	}
	if !seen[attrPlugin] || !pluginName().MatchString(a.plugin) {
		return refuse(codeAttribute, "attribute %q is not critical, or names no plugin", attrPlugin)
	}
	if slices.Contains(a.extended, attrPluginVersion) && (!seen[attrPluginVersion] || !pluginVersion().MatchString(a.pluginVersion)) {
		return refuse(codeAttribute, "attribute %q is not critical, or no version", attrPluginVersion)
	}
	rest := a
	rest.critical = slices.DeleteFunc(slices.Clone(a.critical), func(name string) bool { return slices.Contains(a.extended, name) })
	rest.extended = slices.DeleteFunc(slices.Clone(a.extended), func(name string) bool { return name == attrPlugin || name == attrPluginVersion })
	return rest.check()
}

// checkCritical applies RFC 7515, 4.1.11, and the list of attributes that the specification wants there. Only what is on it may be
// critical: stock verifiers do not find a signing time that is called so.
func (a attributes) checkCritical() error {
	if len(a.critical) == 0 {
		return refuse(codeCritical, "the protected header has no list of critical attributes, or an empty one")
	}
	present := map[string]bool{
		attrScheme:        a.scheme != "",
		attrAuthenticTime: !a.authenticTime.IsZero(),
		attrExpiry:        !a.expiry.IsZero(),
	}
	seen := map[string]bool{}
	for _, name := range a.critical {
		there, known := present[name]
		switch {
		case seen[name]:
			return refuse(codeCritical, "critical attribute %q is listed twice", name)
		case known && !there:
			return refuse(codeCritical, "critical attribute %q is not in the protected header", name)
		case !known && slices.Contains(a.extended, name):
			return refuse(codeCriticalUnknown, "critical attribute %q is unknown", name)
		case !known:
			return refuse(codeCritical, "critical attribute %q is not in the protected header, or may not be listed", name)
		}
		seen[name] = true
	}
	for _, name := range []string{attrScheme, attrExpiry, attrAuthenticTime} {
		if present[name] && !seen[name] {
			return refuse(codeCritical, "attribute %q is not listed as critical", name)
		}
	}
	return nil
}

func (a attributes) checkTimes() error {
	signed := a.signingTime
	switch a.scheme {
	case SchemeX509:
		if a.signingTime.IsZero() || !a.authenticTime.IsZero() {
			return refuse(codeTime, "scheme %s needs %s and forbids %s", a.scheme, attrSigningTime, attrAuthenticTime)
		}
	case SchemeSigningAuthority:
		if a.authenticTime.IsZero() || !a.signingTime.IsZero() {
			return refuse(codeTime, "scheme %s needs %s and forbids %s", a.scheme, attrAuthenticTime, attrSigningTime)
		}
		signed = a.authenticTime
	default:
		return refuse(codeScheme, "unknown signing scheme %q", a.scheme)
	}
	if !a.expiry.IsZero() && !a.expiry.After(signed) {
		return refuse(codeTime, "expiry %s does not lie after the signing time %s", a.expiry.Format(time.RFC3339), signed.Format(time.RFC3339))
	}
	return nil
}

// Times in envelopes lie between the years 1970 and 9999: what RFC 3339 can write and no reader takes for "no time".
const (
	minTime = 0
	maxTime = 253402300799
)

// checkTime refuses times that an envelope cannot hold.
func checkTime(name string, t time.Time) error {
	if u := t.Unix(); u < minTime || u > maxTime {
		return refuse(codeTime, "%s lies outside the years 1970 to 9999", name)
	}
	return nil
}

// extensionName is a name under somebody's domain, written backwards.
var extensionName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z0-9_-]+)+$`) })

// isExtension reports whether a protected attribute may be carried without being understood. The Notary Project's own
// names are not for others: an unknown one, or one in another case, is something that we should have understood.
// io.cncf.notary.verificationPlugin is one of them ([attributes.checkMade] has the one exception).
func isExtension(name string) bool {
	return len(name) <= 255 && extensionName().MatchString(name) && !strings.HasPrefix(strings.ToLower(name), reservedPrefix)
}

// checkUnprotected refuses unsigned members that a reader could mistake for others: those that belong into the
// protected header, those that stand there already (RFC 7515, 4; RFC 9052, 3), and known names in another case. What
// else is unknown is carried.
func (a attributes) checkUnprotected(name string, known ...string) error {
	if slices.Contains(known, name) {
		return nil
	}
	if slices.Contains(a.extended, name) {
		return refuse(codeMalformed, "attribute %q is in both headers", name)
	}
	for _, k := range append(known, "alg", "cty", "crit", attrScheme, attrSigningTime, attrAuthenticTime, attrExpiry) {
		if strings.EqualFold(name, k) {
			return refuse(codeMalformed, "attribute %q does not belong into the unprotected header", name)
		}
	}
	return nil
}
