package kms

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxURI bounds a key reference; the longest real ones (PKCS #11, key version names) stay under 1 KiB.
const maxURI = 4 << 10

// ParseURI parses a key URI and returns its canonical form:
//
//	PATH  file:PATH                                   scheme "" and "file", the path in Path
//	awskms:///ID|ARN|alias/NAME[?region=&profile=&endpoint=]    also awskms:key-id=…;region=…, arn:aws:kms:…
//	gcpkms://projects/…/cryptoKeys/K[/cryptoKeyVersions/N]      also …/versions/N, cloudkms:…, projects/…
//	azurekms://HOST/NAME[/VERSION][?chain=certificate|secret]   also azurekms:vault=…;name=…, https://HOST/{keys,certificates}/NAME[/VERSION]
//	hashivault://NAME[?mount=&version=&namespace=&addr=]        also openbao://…, https://HOST/v1/MOUNT/keys/NAME
//	pkcs11:RFC 7512                                             a PIN in it is refused
//	plugin:NAME?id=KEY
//
// What follows file: is percent-decoded, a bare path is not. A text without a scheme that contains / \ or . is a
// path; so is one that starts with a drive letter. A bare name is an error: only the configuration gives it a
// meaning. A URI of another scheme is returned as [url.Parse] reads it, for providers that imprint does not know.
// User information, a fragment and unknown query keys are refused. Errors wrap [ErrInvalid] and never repeat a
// secret.
func ParseURI(uri string) (*url.URL, error) {
	if err := checkText(uri); err != nil {
		return nil, err
	}
	u, err := parseURI(uri)
	if err == nil && len(Format(u)) > maxURI { // percent-encoding may have made it longer
		return nil, Invalid(CodeURI, "the key reference is longer than %d bytes", maxURI)
	}
	return u, err
}

func parseURI(uri string) (*url.URL, error) {
	scheme, rest, ok := cutScheme(uri)
	switch {
	case strings.HasPrefix(uri, "projects/") && strings.Contains(uri, "/cryptoKeys/"):
		return parseGCP("//" + uri)
	case !ok && strings.ContainsAny(uri, `/\.:`):
		return &url.URL{Path: uri}, nil
	case !ok:
		return nil, Invalid(CodeURI, "key %q is neither a path nor a key URI: write ./%s for a file of that name", uri, uri)
	}
	switch scheme {
	case "file":
		return parseFile(rest)
	case "awskms":
		return parseAWS(rest)
	case "arn":
		if id, _, _ := strings.Cut("arn:"+rest, "?"); !awsARN().MatchString(id) {
			return nil, Invalid(CodeURI, "arn:%s is no ARN of a key or alias of AWS KMS: arn:aws:kms:REGION:ACCOUNT:key/KEY-ID, or …:alias/NAME", shown(rest))
		}
		return parseAWS("///arn:" + rest)
	case "gcpkms":
		return parseGCP(rest)
	case "cloudkms":
		return parseGCP("//" + strings.TrimPrefix(strings.TrimPrefix(rest, "resource="), "//"))
	case "azurekms":
		return parseAzure(rest)
	case "azurekeyvault": // of Go CDK: a URL of the service with another scheme
		host, path, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
		return parseAzure("//" + host + "/" + strings.TrimPrefix(path, "keys/"))
	case "hashivault", "openbao":
		return parseVault(scheme, rest)
	case "http", "https":
		return parseHTTP(scheme, rest)
	case "pkcs11":
		return parsePKCS11(rest)
	case "plugin":
		return parsePlugin(rest)
	}
	return parse(scheme, rest)
}

// Format writes u as a text that [ParseURI] reads back as u.
func Format(u *url.URL) string {
	switch u.Scheme {
	case "":
		return u.Path
	case "pkcs11": // whose queries may have both (RFC 7512 section 2.3), and are mostly paths
		v := *u
		v.RawQuery = strings.NewReplacer("%2F", "/", "%3A", ":").Replace(u.RawQuery)
		return v.String()
	}
	return u.String()
}

func checkText(uri string) error {
	switch {
	case uri == "":
		return Invalid(CodeURI, "the key reference is empty")
	case len(uri) > maxURI:
		return Invalid(CodeURI, "the key reference is longer than %d bytes", maxURI)
	case strings.HasPrefix(uri, "-----BEGIN "):
		return Invalid(CodeURI, "the key reference is the text of a key, not a path or URI: write the key into a file")
	case !isText(uri):
		return Invalid(CodeURI, "the key reference contains control characters or is not UTF-8")
	}
	return nil
}

// isText reports whether s can be shown and sent as it is: UTF-8 without control characters, and without those that turn the
// direction of what follows them.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) })
}

// cutScheme splits a URI at the colon of its scheme and lower-cases the scheme. A single letter is a Windows drive, and a
// slash or a dot before the colon means a path.
func cutScheme(uri string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(uri, ":")
	if !ok || len(scheme) < 2 {
		return "", "", false
	}
	for i, r := range scheme {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r != '-' && r != '+' && (r < '0' || r > '9')) {
			return "", "", false
		}
	}
	return strings.ToLower(scheme), rest, true
}

// parse reads the URI generically. queryKeys, if any are given, are the only ones allowed.
func parse(scheme, rest string, queryKeys ...string) (*url.URL, error) {
	u, err := url.Parse(scheme + ":" + rest)
	if err != nil {
		// The error of package url repeats its input, which may hold a password.
		return nil, Invalid(CodeURI, "the %s key URI is malformed", scheme)
	}
	if u.User != nil {
		return nil, Invalid(CodeURI, "the %s key URI contains a user name or password: credentials do not belong in it", scheme)
	}
	if u.Fragment != "" || strings.Contains(rest, "#") {
		return nil, Invalid(CodeURI, "the %s key URI has a fragment (write %%23 for #)", scheme)
	}
	if len(queryKeys) == 0 {
		return u, nil
	}
	if err := checkQuery(u, queryKeys); err != nil {
		return nil, err
	}
	return u, nil
}

func checkQuery(u *url.URL, allowed []string) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Invalid(CodeURI, "the query of the %s key URI is malformed", u.Scheme)
	}
	for k, v := range q {
		switch {
		case !slices.Contains(allowed, k):
			return Invalid(CodeURI, "the %s key URI has the unknown query key %q; there is %s", u.Scheme, k, strings.Join(allowed, ", "))
		case len(v) != 1 || v[0] == "":
			return Invalid(CodeURI, "the %s key URI must give the query key %q one value", u.Scheme, k)
		case !isText(v[0]):
			return Invalid(CodeURI, "the value of %q in the %s key URI contains control characters or is not UTF-8", k, u.Scheme)
		}
	}
	u.RawQuery, u.ForceQuery = q.Encode(), false
	return nil
}

// harmless are the query keys whose values may be repeated. That of an address may have a password in it, and that of a key which
// nobody knows may be one.
var harmless = []string{"region", "profile", "mount", "version", "namespace", "chain", "hsm", "id"}

// shown is what is said of a URI that is refused: without a query in which there may be a secret.
func shown(rest string) string {
	path, query, _ := strings.Cut(rest, "?")
	q, err := url.ParseQuery(query)
	for k := range q {
		if !slices.Contains(harmless, k) {
			return path + "?…"
		}
	}
	if err != nil {
		return path + "?…"
	}
	return rest
}

// parseFile reads file:PATH, file:/PATH and file:///PATH.
func parseFile(rest string) (*url.URL, error) {
	if strings.ContainsAny(rest, "?#") {
		return nil, Invalid(CodeURI, "a file: key URI has neither query nor fragment: write %%3F for ? and %%23 for #")
	}
	text := rest
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		host, _, _ := strings.Cut(after, "/")
		if host != "" && host != "localhost" {
			return nil, Invalid(CodeURI, "file:%s names the host %q: write file:%s for that path", rest, host, after)
		}
		text = strings.TrimPrefix(after, host)
	}
	path, err := url.PathUnescape(text)
	if err == nil {
		err = checkText(path)
	}
	if err != nil {
		return nil, Invalid(CodeURI, "file:%s names no file: %w", rest, err)
	}
	if strings.HasPrefix(path, "//") { // two slashes would be read as a host's
		path = "/" + strings.TrimLeft(path, "/")
	}
	// OmitHost keeps file:a.key from being written as file://a.key, whose a.key is a host.
	return &url.URL{Scheme: "file", Path: path, OmitHost: true}, nil
}

func parsePlugin(rest string) (*url.URL, error) {
	u, err := parse("plugin", rest, "id")
	if err != nil {
		return nil, err
	}
	if !isName(u.Opaque) {
		return nil, Invalid(CodeURI, "plugin:%s names no plugin: write plugin:NAME?id=KEY", shown(rest))
	}
	if u.RawQuery == "" {
		return nil, Invalid(CodeURI, "plugin:%s names no key: write plugin:%s?id=KEY", rest, u.Opaque)
	}
	return u, nil
}

// isName reports whether s can name a key or a plugin: letters, digits, dash, dot and underscore, no dot or dash first.
func isName(s string) bool {
	for i, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_':
		case (r == '-' || r == '.') && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// attributes reads "a=b;c=d", the form in which step and PKCS #11 write a key.
func attributes(scheme, text string, allowed []string) (map[string]string, error) {
	m := map[string]string{}
	for pair := range strings.SplitSeq(text, ";") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || v == "" {
			return nil, Invalid(CodeURI, "the %s key URI has an attribute without a value", scheme)
		}
		if !slices.Contains(allowed, k) {
			return nil, Invalid(CodeURI, "the %s key URI has the unknown attribute %q; there is %s", scheme, k, strings.Join(allowed, ", "))
		}
		if _, twice := m[k]; twice {
			return nil, Invalid(CodeURI, "the %s key URI has the attribute %q twice", scheme, k)
		}
		decoded, err := url.PathUnescape(v)
		if err != nil {
			return nil, Invalid(CodeURI, "the %s key URI has a malformed attribute %q", scheme, k)
		}
		m[k] = decoded
	}
	return m, nil
}
