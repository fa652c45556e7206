package kms

import (
	"net/url"
	"regexp"
	"strings"
)

var (
	awsARN     = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$`)
	awsID      = regexp.MustCompile(`^(alias/[A-Za-z0-9/_-]+|mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	gcpKey     = regexp.MustCompile(`^projects/[^/?]+/locations/[^/?]+/keyRings/[^/?]+/cryptoKeys/[^/?]+(/cryptoKeyVersions/[1-9][0-9]*)?$`)
	vaultKey   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)
	vaultHTTP  = regexp.MustCompile(`^/v1/([A-Za-z0-9_./-]+)/keys/([^/]+)$`)
	azureHosts = []string{
		".vault.azure.net", ".managedhsm.azure.net", ".vault.azure.cn", ".managedhsm.azure.cn",
		".vault.usgovcloudapi.net", ".managedhsm.usgovcloudapi.net",
	}
)

// parseAWS keeps the case of everything: aliases have capitals. An ARN names its region itself.
func parseAWS(rest string) (*url.URL, error) {
	if !strings.HasPrefix(rest, "/") {
		path, query, _ := strings.Cut(rest, "?")
		m, err := attributes("awskms", path, []string{"key-id", "region"})
		if err != nil {
			return nil, err
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
		if id, _, _ := strings.Cut(after, "?"); awsARN.MatchString(id) || awsID.MatchString(id) {
			return nil, Invalid(CodeURI, "awskms:%s names the key as a host: write awskms:///%s, with three slashes", rest, after)
		}
	}
	u, err := parse("awskms", rest, "region", "profile", "endpoint")
	if err != nil {
		return nil, err
	}
	id := strings.TrimPrefix(u.Path, "/")
	switch {
	case awsID.MatchString(id):
	case awsARN.MatchString(id):
		region := strings.Split(id, ":")[3]
		if r := u.Query().Get("region"); r != "" && r != region {
			return nil, Invalid(CodeURI, "awskms:%s names the region %s, its ARN %s", rest, r, region)
		}
	default:
		return nil, Invalid(CodeURI, "awskms:%s names no key: write awskms:///alias/NAME, awskms:///KEY-ID or awskms:///ARN", rest)
	}
	u.OmitHost = false
	return u, nil
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
	if u.RawQuery != "" || u.ForceQuery || !gcpKey.MatchString(name) {
		return nil, Invalid(CodeURI, "gcpkms:%s names no key: write gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N", rest)
	}
	return &url.URL{Scheme: "gcpkms", Host: "projects", Path: strings.TrimPrefix(name, "projects")}, nil
}

func parseAzure(rest string) (*url.URL, error) {
	if !strings.HasPrefix(rest, "/") {
		path, query, _ := strings.Cut(rest, "?")
		m, err := attributes("azurekms", path, []string{"vault", "name"})
		if err != nil {
			return nil, err
		}
		host := m["vault"]
		if !strings.Contains(host, ".") {
			host += azureHosts[0]
		}
		rest = "//" + host + "/" + m["name"]
		if query != "" {
			q, err := url.ParseQuery(query)
			if err != nil || len(q) != 1 || len(q["version"]) != 1 {
				return nil, Invalid(CodeURI, "azurekms:%s?%s: the only query key is version", path, query)
			}
			rest += "/" + q.Get("version")
		}
	}
	u, err := parse("azurekms", rest)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	ok := u.Host != "" && u.RawQuery == "" && !u.ForceQuery && len(parts) <= 2
	for _, p := range parts {
		ok = ok && isName(p)
	}
	if !ok {
		return nil, Invalid(CodeURI, "azurekms:%s names no key: write azurekms://VAULT.vault.azure.net/NAME/VERSION", rest)
	}
	return u, nil
}

func parseVault(scheme, rest string) (*url.URL, error) {
	u, err := parse(scheme, rest, "mount", "version", "namespace", "addr")
	if err != nil {
		return nil, err
	}
	if u.Path != "" || !vaultKey.MatchString(u.Host) {
		return nil, Invalid(CodeURI, "%s:%s names no key: write %s://NAME?mount=transit", scheme, rest, scheme)
	}
	return u, nil
}

// parseHTTP tells an Azure key by its host and a Vault key by its path.
func parseHTTP(scheme, rest string) (*url.URL, error) {
	u, err := parse(scheme, rest)
	if err != nil {
		return nil, err
	}
	if m := vaultHTTP.FindStringSubmatch(u.Path); m != nil && u.RawQuery == "" && u.Host != "" && vaultKey.MatchString(m[2]) {
		q := url.Values{"addr": {scheme + "://" + u.Host}, "mount": {m[1]}}
		return parseVault("hashivault", "//"+m[2]+"?"+q.Encode())
	}
	for _, suffix := range azureHosts {
		if scheme == "https" && strings.HasSuffix(strings.ToLower(u.Host), suffix) {
			if key, ok := strings.CutPrefix(u.Path, "/keys/"); ok {
				return parseAzure("//" + u.Host + "/" + key)
			}
			return nil, Invalid(CodeURI, "%s:%s names no key: write https://%s/keys/NAME/VERSION", scheme, rest, u.Host)
		}
	}
	return nil, Invalid(CodeURI, "%s:%s is no key of Azure Key Vault (https://VAULT.vault.azure.net/keys/NAME) "+
		"nor of Vault (https://HOST/v1/MOUNT/keys/NAME)", scheme, rest)
}

// parsePKCS11 reads RFC 7512. A PIN in a URI ends in shell histories and process lists: pin-value is refused.
func parsePKCS11(rest string) (*url.URL, error) {
	path, query, _ := strings.Cut(rest, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if k, _, _ := strings.Cut(pair, "="); k == "pin-value" {
			return nil, Invalid(CodeURI, "the pkcs11 key URI contains a PIN: use pin-source=FILE, or leave it out to be asked")
		}
	}
	u, err := parse("pkcs11", rest, "pin-source", "module-name", "module-path")
	if err != nil {
		return nil, err
	}
	_, err = attributes("pkcs11", path, []string{"token", "manufacturer", "serial", "model", "library-manufacturer", "library-version",
		"library-description", "object", "type", "id", "slot-id", "slot-manufacturer", "slot-description"})
	if err != nil {
		return nil, err
	}
	if u.Opaque == "" {
		return nil, Invalid(CodeURI, "the pkcs11 key URI names no key: write pkcs11:token=TOKEN;object=KEY")
	}
	return u, nil
}
