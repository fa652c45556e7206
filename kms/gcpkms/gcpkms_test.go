package gcpkms

import (
	"crypto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/kms/kmstest/gcptest"
)

// usableKeys are the four kinds of keys that can make Notary Project signatures here.
var usableKeys = []string{"RSA-2048", "RSA-4096", "P-256", "P-384"}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, algorithm := range usableKeys {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.AddKey(one, certtest.Key(algorithm))
			k := p.mustOpen(t, one)
			kmstest.RunWith(t, k, kmstest.Options{Network: true})
			if err := kms.Probe(t.Context(), k); err != nil {
				t.Error(err)
			}
		})
	}
}

// With a version in the URI exactly two methods are called, so that roles/cloudkms.signerVerifier suffices.
func TestTwoCalls(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.AddKey(one, certtest.Key("P-384"))
	k := p.mustOpen(t, one)
	if _, err := sign(t, k); err != nil {
		t.Fatal(err)
	}
	if got, want := p.Methods(), []string{gcptest.AsymmetricSign, gcptest.GetPublicKey}; !slices.Equal(got, want) {
		t.Errorf("called %v, want %v", got, want)
	}
	if p.Calls(gcptest.GetPublicKey) != 1 || p.Calls(gcptest.AsymmetricSign) != 1 {
		t.Errorf("%d and %d calls", p.Calls(gcptest.GetPublicKey), p.Calls(gcptest.AsymmetricSign))
	}
	for _, agent := range p.Agents() {
		if !strings.HasPrefix(agent, "imprint/1.2.3") {
			t.Errorf("the service is told %q", agent)
		}
	}
	if asked := p.world.Asked(); slices.ContainsFunc(asked, func(host string) bool { return host != gcptest.Host }) {
		t.Errorf("connected to %v", asked)
	}
	if id := k.(kms.Identifier).ID(); id != "gcpkms://"+one {
		t.Error(id)
	}
	if d := kms.Describe(k); d != (kms.Description{Service: "Google Cloud KMS", Version: "1"}) {
		t.Errorf("%+v", d)
	}
	if got, err := kms.Certificates(t.Context(), k); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// Without a version the enabled one with the highest number is taken, by number and not by text, and pinned.
func TestNewestVersion(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	disabled := gcptest.State(kmspb.CryptoKeyVersion_DISABLED)
	for version, edits := range map[string][]func(*gcptest.Version){
		"1": nil, "2": nil, "9": nil, "10": nil, "11": {disabled}, "100": {gcptest.State(kmspb.CryptoKeyVersion_DESTROYED)}, "3": {disabled},
	} {
		p.AddKey(keyName+"/cryptoKeyVersions/"+version, certtest.Key("P-256"), edits...)
	}
	p.AddKey(keyName+"2/cryptoKeyVersions/50", certtest.Key("P-256")) // another key
	// A service that heeds no filter has nobody sign with a version that is disabled.
	p.Fault(always(gcptest.ListCryptoKeyVersions, gcptest.Unfiltered))
	if id := p.mustOpen(t, keyName).(kms.Identifier).ID(); id != "gcpkms://"+keyName+"/cryptoKeyVersions/10" {
		t.Error(id)
	}
	p.Reset()
	k := p.mustOpen(t, keyName)
	if id := k.(kms.Identifier).ID(); id != "gcpkms://"+keyName+"/cryptoKeyVersions/10" {
		t.Error(id)
	}
	if kms.Describe(k).Version != "10" {
		t.Error(kms.Describe(k).Version)
	}
	if p.Calls(gcptest.ListCryptoKeyVersions) != 2 {
		t.Errorf("%d pages", p.Calls(gcptest.ListCryptoKeyVersions))
	}
	// A version that is made later changes nothing for a key that is open.
	p.AddKey(keyName+"/cryptoKeyVersions/12", certtest.Key("P-256"))
	if _, err := sign(t, k); err != nil {
		t.Error(err)
	}
}

func TestNewestVersionRefusals(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.AddKey(one, certtest.Key("P-256"), gcptest.State(kmspb.CryptoKeyVersion_DISABLED))
	_, err := p.open(t, keyName)
	wantError(t, err, kms.CodeUnusable, kms.ErrService, "gcloud kms keys versions enable N --key K --keyring r --location europe-west3 --project acme.example:p",
		"opening key gcpkms://"+keyName+": ", "none of its versions is enabled")

	p.AddKey(keyName+"/cryptoKeyVersions/2", certtest.Key("P-256"))
	p.Fault(always(gcptest.ListCryptoKeyVersions, gcptest.Denied))
	_, err = p.open(t, keyName)
	wantError(t, err, kms.CodeDenied, kms.ErrService, "name the version, as gcpkms://"+keyName+"/cryptoKeyVersions/1: that needs no permission beyond roles/cloudkms.signerVerifier",
		"listing its versions: the permission cloudkms.cryptoKeyVersions.list is denied on "+keyName+" (or it may not exist)")
	if n := p.Calls(gcptest.ListCryptoKeyVersions); n != 2 {
		t.Errorf("a refusal was asked for %d times", n-1)
	}

	p.Reset()
	p.Fault(first(2, gcptest.ListCryptoKeyVersions, gcptest.Throttled))
	if k := p.mustOpen(t, keyName); kms.Describe(k).Version != "2" {
		t.Error(kms.Describe(k).Version)
	}
}

// Each algorithm of the service but four is refused when the key is opened, with the usable ones named.
func TestUnusableAlgorithms(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	keys := map[kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm]crypto.Signer{
		kmspb.CryptoKeyVersion_RSA_SIGN_PSS_3072_SHA256:   certtest.Key("RSA-3072"),
		kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA256:   certtest.Key("RSA-4096"),
		kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_2048_SHA256: certtest.Key("RSA-2048"),
		kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_4096_SHA512: certtest.Key("RSA-4096"),
	}
	tried := 0
	for number, name := range kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_name {
		algorithm := kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm(number)
		if _, err := specOf(algorithm); err == nil {
			continue
		}
		tried++
		t.Run(name, func(t *testing.T) {
			key := keys[algorithm]
			if key == nil {
				key = certtest.Key("P-256")
			}
			says := []string{"opening key gcpkms://" + one + ": ", "RSA_SIGN_PSS_2048_SHA256, RSA_SIGN_PSS_4096_SHA512, EC_SIGN_P256_SHA256, EC_SIGN_P384_SHA384"}
			if !strings.HasPrefix(name, "PQ_") {
				says = append(says, "its algorithm is "+name)
			}
			p.AddKey(one, key, gcptest.Algorithm(algorithm))
			k, err := p.open(t, one)
			if k != nil {
				t.Error("it is opened")
			}
			wantError(t, err, kms.CodeAlgorithm, kms.ErrInvalid, "--default-algorithm ec-sign-p384-sha384` (or rsa-sign-pss-2048-sha256, ", says...)
		})
	}
	if tried != len(kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_name)-4 || tried < 40 {
		t.Errorf("tried %d algorithms", tried)
	}
	// There is no P-521. Were there one some day, its number would be new.
	p.AddKey(one, certtest.Key("P-521"), gcptest.Algorithm(999))
	_, err := p.open(t, one)
	wantError(t, err, kms.CodeAlgorithm, kms.ErrInvalid, "gcloud kms keys create", "its algorithm is number 999", "EC_SIGN_P384_SHA384")
	if n := p.Calls(gcptest.AsymmetricSign); n != 0 {
		t.Errorf("%d signing calls", n)
	}
}

func TestPublicKeyIsChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault gcptest.Fault
		says  string
		calls int
	}{
		"another name":      {gcptest.OtherName, `the answer is about "` + keyName + `/cryptoKeyVersions/77"`, 1},
		"wrong checksum":    {gcptest.BadChecksum, "the key does not match its checksum", 8},
		"no checksum":       {gcptest.NoChecksum, "the key came without its checksum", 8},
		"another algorithm": {gcptest.OtherAlgorithm, "it is EC-256, but its algorithm is said to be RSA_SIGN_PSS_2048_SHA256", 1},
		"two keys":          {gcptest.TrailingPEM, "not exactly one PEM block", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.AddKey(one, certtest.Key("P-256"))
			p.Fault(always(gcptest.GetPublicKey, tt.fault))
			k, err := p.open(t, one)
			if k != nil {
				t.Error("it is opened")
			}
			remedy := ""
			if tt.calls > 1 {
				remedy = "changes what is sent"
			}
			wantError(t, err, kms.CodeService, kms.ErrService, remedy, tt.says)
			if n := p.Calls(gcptest.GetPublicKey); n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
		})
	}
	t.Run("once damaged, then whole", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.AddKey(one, certtest.Key("P-256"))
		p.Fault(first(1, gcptest.GetPublicKey, gcptest.BadChecksum))
		p.mustOpen(t, one)
	})
	t.Run("nonsense", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		for _, pem := range []string{"", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
			p.AddKey(one, certtest.Key("P-256"), func(v *gcptest.Version) { v.PEM = pem })
			_, err := p.open(t, one)
			wantError(t, err, kms.CodeService, kms.ErrService, "", "reading its public key: ")
		}
	})
}

// The key's service is not asked, and no key is made, where nobody is logged in.
func TestNoCredentials(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	u := &url.URL{Scheme: "gcpkms", Host: "projects", Path: strings.TrimPrefix(one, "projects")}
	_, err := open(t.Context(), u, kms.Options{}, option.WithAuthCredentialsFile(option.ServiceAccount, "/nonexistent/account.json"), p.through(p.world.Proxy))
	wantError(t, err, kms.CodeCredentials, kms.ErrService, "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
		"no Google Cloud credentials: ", "/nonexistent/account.json")
	if asked := p.world.Asked(); len(asked) != 0 {
		t.Error(asked)
	}
}
