package kms

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

var (
	awsARN = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$`)
	})
	awsID = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(alias/[A-Za-z0-9/_-]+|mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	})
	awsRegion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`) }) // it becomes part of a host's name
	gcpKey    = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^projects/[A-Za-z0-9.:-]+/locations/[A-Za-z0-9-]+/keyRings/[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+(/cryptoKeyVersions/[1-9][0-9]*)?$`)
	})
	vaultKey   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`) })
	vaultMount = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)
	})
	version    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[1-9][0-9]{0,8}$`) })
	vaultHTTP  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/v1/([A-Za-z0-9_./-]+)/keys/([^/]+)$`) })
	azureName  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9-]+$`) })
	azureVers  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{32}$`) }) // as the service makes them
	azureHosts = []string{
		".vault.azure.net", ".managedhsm.azure.net", ".vault.azure.cn", ".managedhsm.azure.cn",
		".vault.usgovcloudapi.net", ".managedhsm.usgovcloudapi.net",
	}
)

// parseAWS keeps the case of everything: aliases have capitals. An ARN names its region itself.
func parseAWS(rest string) (*url.URL, error) {
	if !strings.HasPrefix(rest, "/") {
		path, query, _ := strings.Cut(rest, "?")
		if awsARN().MatchString(path) || awsID().MatchString(path) {
			return nil, Invalid(CodeURI, "awskms:%s lacks its slashes: write awskms:///%s", shown(rest), shown(rest))
		}
		m := map[string]string{}
		if path != "" {
			var err error
			if m, err = attributes("awskms", path, []string{"key-id", "region"}); err != nil {
				return nil, err
			}
		}
		if !awsARN().MatchString(m["key-id"]) && !awsID().MatchString(m["key-id"]) {
			return nil, Invalid(CodeURI, "awskms:%s names no key: write awskms:///alias/NAME, or awskms:key-id=alias/NAME;region=REGION", shown(rest))
		}
		rest = "///" + m["key-id"]
		if m["region"] != "" {
			query = strings.TrimPrefix(query+"&region="+url.QueryEscape(m["region"]), "&")
		}
		if query != "" {
			rest += "?" + query
		}
	}
	if after, ok := strings.CutPrefix(rest, "//"); ok && !strings.HasPrefix(after, "/") {
		// Two slashes make the key a host (sigstore/fulcio#1178).
		if id, _, _ := strings.Cut(after, "?"); awsARN().MatchString(id) || awsID().MatchString(id) {
			return nil, Invalid(CodeURI, "awskms:%s names the key as a host: write awskms:///%s, with three slashes", shown(rest), shown(after))
		}
	}
	u, err := parse("awskms", rest, "region", "profile", "endpoint")
	if err != nil {
		return nil, err
	}
	id := strings.TrimPrefix(u.Path, "/")
	switch {
	case awsID().MatchString(id):
	case awsARN().MatchString(id):
		region := strings.Split(id, ":")[3]
		if r := u.Query().Get("region"); r != "" && r != region {
			return nil, Invalid(CodeURI, "awskms:%s names the region %s, its ARN %s", shown(rest), r, region)
		}
	default:
		return nil, Invalid(CodeURI, "awskms:%s names no key: write awskms:///alias/NAME, awskms:///KEY-ID or awskms:///ARN", shown(rest))
	}
	if r := u.Query().Get("region"); r != "" && !awsRegion().MatchString(r) {
		return nil, Invalid(CodeURI, "the awskms key URI names %q, which is no region: write one as eu-central-1", Text(r))
	}
	endpoint := u.Query().Get("endpoint")
	if u.Host != "" {
		if endpoint != "" {
			return nil, Invalid(CodeURI, "awskms:%s names two endpoints, %s and that of ?endpoint=", shown(rest), u.Host)
		}
		endpoint = "https://" + u.Host // as sigstore reads it
	}
	if endpoint != "" {
		if err := checkAddress("awskms", "endpoint", endpoint); err != nil {
			return nil, err
		}
		q := u.Query()
		q.Set("endpoint", endpoint)
		u.RawQuery = q.Encode()
	}
	u.Host, u.OmitHost, u.RawPath = "", false, ""
	return u, nil
}

// checkAddress checks the URL of a service in a query, without repeating what may be a secret in it.
func checkAddress(scheme, key, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return Invalid(CodeURI, "the %s key URI's %s is no http or https URL", scheme, key)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return Invalid(CodeURI, "the %s key URI's %s has a user name, a query or a fragment: credentials do not belong in it", scheme, key)
	}
	return nil
}

func parseGCP(rest string) (*url.URL, error) {
	u, err := parse("gcpkms", rest)
	if err != nil {
		return nil, err
	}
	name := u.Host + u.Path
	if i := strings.LastIndex(name, "/versions/"); i >= 0 {
		name = name[:i] + "/cryptoKeyVersions/" + name[i+len("/versions/"):]
	}
	if u.RawQuery != "" || u.ForceQuery || !gcpKey().MatchString(name) {
		return nil, Invalid(CodeURI, "gcpkms:%s names no key: write gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N", shown(rest))
	}
	return &url.URL{Scheme: "gcpkms", Host: "projects", Path: strings.TrimPrefix(name, "projects")}, nil
}

// parseAzure keeps in ?chain= where the certificates are read: certificate (the certificate object of the key's name, which a
// /certificates/ URL means too) or secret (which may hand out the private key with them).
func parseAzure(rest string) (*url.URL, error) {
	if !strings.HasPrefix(rest, "/") {
		var err error
		if rest, err = stepAzure(rest); err != nil {
			return nil, err
		}
	}
	u, err := parse("azurekms", rest, "chain")
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	ok := u.Host != ""
	for _, p := range parts {
		ok = ok && azureName().MatchString(p)
	}
	if ok && len(parts) == 3 && parts[0] == "keys" {
		return nil, Invalid(CodeURI, "azurekms:%s names no key: write azurekms://%s/%s/%s", shown(rest), u.Host, parts[1], parts[2])
	}
	if !ok || len(parts) > 2 {
		return nil, Invalid(CodeURI, "azurekms:%s names no key: write azurekms://VAULT.vault.azure.net/NAME/VERSION", shown(rest))
	}
	if chain := u.Query().Get("chain"); chain != "" && chain != "certificate" && chain != "secret" {
		return nil, Invalid(CodeURI, "azurekms:%s: chain is certificate or secret, not %q", shown(rest), chain)
	}
	if !isAzure(u.Host) {
		return nil, Invalid(CodeURI, "azurekms:%s: %s is no host of Key Vault or Managed HSM: write azurekms://VAULT%s/NAME", shown(rest), Text(u.Host), azureHosts[0])
	}
	// In a URL of the service that would be the collection. A key may have that name, but hardly with another version.
	if c := parts[0]; len(parts) == 2 && (c == "keys" || c == "certificates") && !azureVers().MatchString(parts[1]) {
		return nil, Invalid(CodeURI, "azurekms:%s names the version %s of a key named %s: write azurekms://%s/%s, or https://%s/%s/%s",
			shown(rest), parts[1], c, u.Host, parts[1], u.Host, c, parts[1])
	}
	u.Host, u.RawPath = strings.ToLower(u.Host), ""
	return u, nil
}

// isAzure reports whether host is a vault, one label before one of the suffixes, in any case.
func isAzure(host string) bool {
	vault, suffix, ok := strings.Cut(host, ".")
	return ok && azureName().MatchString(vault) && slices.ContainsFunc(azureHosts, func(s string) bool { return strings.EqualFold(s, "."+suffix) })
}

// stepAzure rewrites step's vault=V;name=K?version=N&hsm=true.
func stepAzure(rest string) (string, error) {
	path, query, _ := strings.Cut(rest, "?")
	m, err := attributes("azurekms", path, []string{"vault", "name"})
	if err != nil {
		return "", err
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return "", Invalid(CodeURI, "the query of the azurekms key URI is malformed")
	}
	if name := m["name"]; name != "" && !azureName().MatchString(name) {
		return "", Invalid(CodeURI, "azurekms:%s names no key: a name has letters, digits and dashes", shown(rest))
	}
	host, suffix, version := m["vault"], azureHosts[0], ""
	for k, v := range q {
		switch {
		case len(v) != 1:
			return "", Invalid(CodeURI, "the azurekms key URI must give the query key %q one value", k)
		case k == "version":
			version = "/" + v[0]
		case k == "hsm" && (v[0] == "true" || v[0] == "false"):
			if v[0] == "true" {
				suffix = azureHosts[1]
			}
		default:
			return "", Invalid(CodeURI, "the azurekms key URI has the unknown query key %q; there is version, hsm", k)
		}
	}
	if !strings.Contains(host, ".") {
		host += suffix
	}
	return "//" + host + "/" + m["name"] + version, nil
}

func parseVault(scheme, rest string) (*url.URL, error) {
	u, err := parse(scheme, rest, "mount", "version", "namespace", "addr")
	if err != nil {
		return nil, err
	}
	if u.Path != "" || !vaultKey().MatchString(u.Host) {
		return nil, Invalid(CodeURI, "%s:%s names no key: write %s://NAME?mount=transit", scheme, shown(rest), scheme)
	}
	q := u.Query()
	if addr := q.Get("addr"); addr != "" {
		if err := checkAddress(scheme, "addr", addr); err != nil {
			return nil, err
		}
	}
	if m := q.Get("mount"); m != "" && !vaultMount().MatchString(m) {
		return nil, Invalid(CodeURI, "%s:%s: %q is no mount", scheme, shown(rest), m)
	}
	if v := q.Get("version"); v != "" && !version().MatchString(v) {
		return nil, Invalid(CodeURI, "%s:%s: %q is no version: it is a number from 1", scheme, shown(rest), v)
	}
	return u, nil
}

// parseHTTP tells an Azure key by its host and a Vault key by its path.
func parseHTTP(scheme, rest string) (*url.URL, error) {
	u, err := parse(scheme, rest)
	if err != nil {
		return nil, err
	}
	if m := vaultHTTP().FindStringSubmatch(u.Path); m != nil && u.RawQuery == "" && u.Host != "" && vaultKey().MatchString(m[2]) {
		q := url.Values{"addr": {scheme + "://" + u.Host}, "mount": {m[1]}}
		return parseVault("hashivault", "//"+m[2]+"?"+q.Encode())
	}
	if scheme == "https" && isAzure(u.Host) {
		if key, ok := strings.CutPrefix(u.Path, "/keys/"); ok && u.RawQuery == "" {
			return parseAzure("//" + u.Host + "/" + key)
		}
		if key, ok := strings.CutPrefix(u.Path, "/certificates/"); ok && u.RawQuery == "" {
			return parseAzure("//" + u.Host + "/" + key + "?chain=certificate")
		}
		return nil, Invalid(CodeURI, "%s:%s names no key: write https://%s/keys/NAME/VERSION", scheme, shown(rest), u.Host)
	}
	return nil, Invalid(CodeURI, "%s:%s is no key of Azure Key Vault (https://VAULT.vault.azure.net/keys/NAME) "+
		"nor of Vault (https://HOST/v1/MOUNT/keys/NAME)", scheme, shown(rest))
}

// parsePKCS11 reads RFC 7512. A PIN in a URI ends in shell histories and process lists: pin-value is refused.
func parsePKCS11(rest string) (*url.URL, error) {
	path, query, _ := strings.Cut(rest, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if k, _, _ := strings.Cut(pair, "="); k == "pin-value" {
			return nil, Invalid(CodeURI, "the pkcs11 key URI contains a PIN: use pin-source=FILE, or leave it out to be asked")
		}
	}
	// In a query of RFC 7512, + is itself; package url reads and writes it as a space.
	if query != "" {
		rest = path + "?" + strings.ReplaceAll(query, "+", "%2B")
	}
	for pair := range strings.SplitSeq(path, ";") { // as step writes it
		if k, _, _ := strings.Cut(pair, "="); k == "module-path" || k == "module-name" || k == "pin-source" {
			return nil, Invalid(CodeURI, "the pkcs11 key URI has %s among its attributes: write it after a question mark, as pkcs11:object=KEY?%s=…", k, k)
		}
	}
	u, err := parse("pkcs11", rest, "pin-source", "module-name", "module-path")
	if err != nil {
		return nil, err
	}
	u.RawQuery = strings.ReplaceAll(u.RawQuery, "+", "%20")
	if u.Opaque == "" {
		return nil, Invalid(CodeURI, "the pkcs11 key URI names no key: write pkcs11:token=TOKEN;object=KEY")
	}
	_, err = attributes("pkcs11", path, []string{"token", "manufacturer", "serial", "model", "library-manufacturer", "library-version",
		"library-description", "object", "type", "id", "slot-id", "slot-manufacturer", "slot-description"})
	if err != nil {
		return nil, err
	}
	return u, nil
}
