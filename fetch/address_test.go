package fetch

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestX17ReservedAddresses(t *testing.T) {
	t.Parallel()
	// The first and the last of each block, and their neighbours, by the IANA special-purpose registries.
	private := []string{
		"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "100.100.100.200",
		"127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.0", "169.254.169.254", "169.254.255.255",
		"172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.1", "192.88.99.1", "192.168.0.0", "192.168.255.255",
		"198.18.0.0", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255",
		"::", "::1", "::2", "::7f00:1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:10.0.0.1",
		"64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "64:ff9b::1:808:808", "100::1",
		"2001::1", "2001:0:808:808::", "2001:1ff:ffff::1", "2001:db8::1", "2002:a00:1::1", "2002:808:808::1", "3fff::1", "3fff:fff:ffff::1",
		"4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "1fff::1", "2606:4700::1%eth0",
	}
	for _, s := range private {
		if reserved(netip.MustParseAddr(s)) == "" {
			t.Errorf("%s passes for public", s)
		}
	}
	public := []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0",
		"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
		"::ffff:8.8.8.8", "64:ff9b::808:808", "2000::1", "2001:200::1", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700::1", "3ffe::1", "3fff:1000::1",
	}
	for _, s := range public {
		if why := reserved(netip.MustParseAddr(s)); why != "" {
			t.Errorf("%s is refused as %s", s, why)
		}
	}
}

func TestX17URLs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, code string }{
		{"http://ca.example/issuer.crt", ""},
		{"http://ca.example:8080/issuer.crt?x=1#part", ""},
		{"http://CA.example./issuer.crt", ""},
		{"http://xn--bcher-kva.example/", ""},
		{"http://a_b.example/", ""},
		{"http://8.8.8.8/", ""},
		{"http://[2606:4700::1]:80/", ""},
		{"https://ca.example/", ""},
		{"file:///etc/passwd", codeURL},
		{"ldap://ca.example/cn=x", codeURL},
		{"ftp://ca.example/", codeURL},
		{"gopher://ca.example/", codeURL},
		{"http:///nohost", codeURL},
		{"http:ca.example", codeURL},
		{"//ca.example/", codeURL},
		{"", codeURL},
		{"http://user@ca.example/", codeURL},
		{"http://user:secret@ca.example/", codeURL},
		{"http://2130706433/", codeURL},
		{"http://127.1/", codeURL},
		{"http://0x7f000001/", codeURL},
		{"http://0x7f.0.0.0x1/", codeURL},
		{"http://0177.0.0.1/", codeURL},
		{"http://127.0.0.1./", codeURL},
		{"http://1.2.3.4.5/", codeURL},
		{"http://ca.example.0x/", codeURL},
		{"http://1.2.3.256/", codeURL},
		{"http://[fe80::1%25eth0]/", codeURL},
		{"http://ca.example:0/", codeURL},
		{"http://ca.example:65536/", codeURL},
		{"http://ⓛocalhost/", codeURL}, // some resolvers fold it to localhost
		{"http://127。0。0。1/", codeURL},
		{"http://" + strings.Repeat("a.", 127) + "example/", codeURL},
		{"http://127.0.0.1/", codePrivate},
		{"http://[::1]/", codePrivate},
		{"http://[::ffff:10.0.0.1]/", codePrivate},
		{"http://[64:ff9b::a9fe:a9fe]/latest/meta-data", codePrivate},
		{"http://169.254.169.254/latest/meta-data", codePrivate},
		{"http://localhost/", codePrivate},
		{"http://LocalHost.:8080/", codePrivate},
		{"http://x.localhost/", codePrivate},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		g := New(Options{}).guard
		if err = checkURL(u); err == nil {
			err = g.checkHost(u.Hostname())
		}
		if got := code(err); got != tt.code {
			t.Errorf("%s: %v (%s), want %q", tt.url, err, got, tt.code)
		}
		open := New(Options{AllowPrivate: true}).guard
		if err = checkURL(u); err == nil {
			err = open.checkHost(u.Hostname())
		}
		want := tt.code
		if want == codePrivate {
			want = ""
		}
		if got := code(err); got != want {
			t.Errorf("%s with --allow-private: %v (%s), want %q", tt.url, err, got, want)
		}
	}
}

func TestX17DialledAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ network, address, code string }{
		{"tcp4", "8.8.8.8:80", ""},
		{"tcp6", "[2606:4700::1]:80", ""},
		{"tcp4", "10.0.0.1:80", codePrivate},
		{"tcp6", "[fe80::1%eth0]:80", codePrivate},
		{"tcp6", "[::ffff:10.0.0.1]:80", codePrivate},
		{"udp4", "8.8.8.8:80", codePrivate},
		{"unix", "/var/run/docker.sock", codePrivate},
		{"tcp4", "8.8.8.8", codePrivate},
		{"tcp4", "ca.example:80", codePrivate},
	} {
		err := New(Options{}).guard.control(t.Context(), tt.network, tt.address, nil)
		if got := code(err); got != tt.code {
			t.Errorf("%s %s: %v, want %q", tt.network, tt.address, err, tt.code)
		}
		if err := New(Options{AllowPrivate: true}).guard.control(t.Context(), tt.network, tt.address, nil); err != nil {
			t.Errorf("%s %s with --allow-private: %v", tt.network, tt.address, err)
		}
	}
}

func TestLocalNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ca", "CA.", "ca.local", "x.localhost", "metadata.google.internal", "METADATA.google.internal.", "ca.localdomain", "nas.home.arpa"} {
		if !isLocalName(name) {
			t.Errorf("%s passes for a public name", name)
		}
	}
	for _, name := range []string{"ca.example", "internal.example", "local.example.com", "notlocal.com", "8.8.8.8", "2606:4700::1"} {
		if isLocalName(name) {
			t.Errorf("%s is taken for a name of the inside", name)
		}
	}
}
