package wire

// Capability flags, as the two sides exchange them when a connection opens.
const (
	ClientLongPassword     uint32 = 1 << 0
	ClientFoundRows        uint32 = 1 << 1
	ClientLongFlag         uint32 = 1 << 2
	ClientConnectWithDB    uint32 = 1 << 3
	ClientNoSchema         uint32 = 1 << 4
	ClientCompress         uint32 = 1 << 5
	ClientODBC             uint32 = 1 << 6
	ClientLocalFiles       uint32 = 1 << 7
	ClientIgnoreSpace      uint32 = 1 << 8
	ClientProtocol41       uint32 = 1 << 9
	ClientInteractive      uint32 = 1 << 10
	ClientSSL              uint32 = 1 << 11
	ClientIgnoreSigpipe    uint32 = 1 << 12
	ClientTransactions     uint32 = 1 << 13
	ClientReserved         uint32 = 1 << 14
	ClientSecureConnection uint32 = 1 << 15
	ClientMultiStatements  uint32 = 1 << 16
	ClientMultiResults     uint32 = 1 << 17
	ClientPSMultiResults   uint32 = 1 << 18
	ClientPluginAuth       uint32 = 1 << 19
	ClientConnectAttrs     uint32 = 1 << 20
	ClientPluginAuthLenEnc uint32 = 1 << 21
	ClientExpiredPasswords uint32 = 1 << 22
	ClientSessionTrack     uint32 = 1 << 23
	ClientDeprecateEOF     uint32 = 1 << 24
	ClientOptionalMetadata uint32 = 1 << 25
	ClientZstd             uint32 = 1 << 26
	ClientQueryAttributes  uint32 = 1 << 27
)

// Offered is what we announce to clients. Compression and optional metadata
// are left out on purpose: both would make us unpack every packet.
const Offered = ClientLongPassword | ClientFoundRows | ClientLongFlag | ClientConnectWithDB |
	ClientNoSchema | ClientODBC | ClientLocalFiles | ClientIgnoreSpace | ClientProtocol41 |
	ClientInteractive | ClientIgnoreSigpipe | ClientTransactions | ClientReserved |
	ClientSecureConnection | ClientMultiStatements | ClientMultiResults | ClientPSMultiResults |
	ClientPluginAuth | ClientConnectAttrs | ClientPluginAuthLenEnc | ClientExpiredPasswords |
	ClientSessionTrack | ClientDeprecateEOF | ClientQueryAttributes

// Shaping are the flags that change what the two sides send each other, or what
// the server does with it. Two clients may use one server connection after each
// other only if these agree.
const Shaping = ClientFoundRows | ClientNoSchema | ClientODBC | ClientLocalFiles |
	ClientIgnoreSpace | ClientInteractive | ClientMultiStatements | ClientMultiResults |
	ClientPSMultiResults | ClientDeprecateEOF | ClientQueryAttributes | ClientExpiredPasswords

// Commands: the first byte of a request.
const (
	ComQuit            = 0x01
	ComInitDB          = 0x02
	ComQuery           = 0x03
	ComFieldList       = 0x04
	ComCreateDB        = 0x05
	ComDropDB          = 0x06
	ComRefresh         = 0x07
	ComShutdown        = 0x08
	ComStatistics      = 0x09
	ComProcessInfo     = 0x0a
	ComProcessKill     = 0x0c
	ComDebug           = 0x0d
	ComPing            = 0x0e
	ComChangeUser      = 0x11
	ComStmtPrepare     = 0x16
	ComStmtExecute     = 0x17
	ComStmtSendLong    = 0x18
	ComStmtClose       = 0x19
	ComStmtReset       = 0x1a
	ComSetOption       = 0x1b
	ComStmtFetch       = 0x1c
	ComResetConnection = 0x1f
)

// Status flags: what the server says about the session at the end of a result.
const (
	StatusInTrans            uint16 = 0x0001
	StatusAutocommit         uint16 = 0x0002
	StatusMoreResults        uint16 = 0x0008
	StatusCursorExists       uint16 = 0x0040
	StatusLastRowSent        uint16 = 0x0080
	StatusNoBackslashEscapes uint16 = 0x0200
	StatusInTransReadOnly    uint16 = 0x2000
	StatusStateChanged       uint16 = 0x4000
)

// Kinds of session track in an OK packet.
const (
	TrackVariable    = 0
	TrackSchema      = 1
	TrackState       = 2
	TrackGTID        = 3
	TrackTrxChars    = 4
	TrackTrxState    = 5
	maxPayload       = 1<<24 - 1
	maxControlPacket = 1 << 20 // an OK or ERR larger than this is garbage
)

// Names of the sign-in methods we know how to answer.
const (
	PluginCachingSHA2 = "caching_sha2_password"
	PluginNative      = "mysql_native_password"
	PluginSHA256      = "sha256_password"
	PluginClear       = "mysql_clear_password"
)
