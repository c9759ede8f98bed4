BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0008');
CREATE TABLE cli_definitions (
	lab_id VARCHAR(12) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	definition JSON NOT NULL, 
	CONSTRAINT pk_cli_definitions PRIMARY KEY (lab_id, name), 
	CONSTRAINT fk_cli_definitions_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "cli_definitions" VALUES('labs.id','cli_definitions.name','cli_definitions.sha256','{"of": "cli_definitions.definition"}');
CREATE TABLE config_nodes (
	node_id VARCHAR(12) NOT NULL, 
	lab_id VARCHAR(12) NOT NULL, 
	lab VARCHAR(63) NOT NULL, 
	node VARCHAR(63) NOT NULL, 
	device TEXT NOT NULL, 
	active INTEGER, 
	origin VARCHAR(8) NOT NULL, 
	chosen VARCHAR(64) NOT NULL, 
	choice INTEGER NOT NULL, 
	last_number INTEGER NOT NULL, 
	extracted_at FLOAT, 
	CONSTRAINT pk_config_nodes PRIMARY KEY (node_id)
);
INSERT INTO "config_nodes" VALUES('config_nodes','config_nodes','config_nodes.lab','config_nodes.node','config_nodes.device',7,'config_n','config_nodes.chosen',7,7,1.5);
CREATE TABLE config_policies (
	lab_id VARCHAR(12) NOT NULL, 
	extract_every_s FLOAT, 
	keep INTEGER, 
	keep_days FLOAT, 
	CONSTRAINT pk_config_policies PRIMARY KEY (lab_id), 
	CONSTRAINT fk_config_policies_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "config_policies" VALUES('labs.id',1.5,7,1.5);
CREATE TABLE config_revisions (
	node_id VARCHAR(12) NOT NULL, 
	number INTEGER NOT NULL, 
	lab VARCHAR(63) NOT NULL, 
	node VARCHAR(63) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	origin VARCHAR(8) NOT NULL, 
	who TEXT NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	tried JSON NOT NULL, 
	note TEXT NOT NULL, 
	taken_at FLOAT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_config_revisions PRIMARY KEY (node_id, number), 
	CONSTRAINT fk_config_revisions_node_id_config_nodes FOREIGN KEY(node_id) REFERENCES config_nodes (node_id) ON DELETE CASCADE, 
	CONSTRAINT fk_config_revisions_sha256_config_texts FOREIGN KEY(sha256) REFERENCES config_texts (sha256)
);
INSERT INTO "config_revisions" VALUES('config_nodes',7,'config_revisions.lab','config_revisions.node','config_texts.sha256','config_r','config_revisions.who','config_revisions','{"of": "config_revisions.tried"}','config_revisions.note',1.5,1.5);
CREATE TABLE config_texts (
	sha256 VARCHAR(64) NOT NULL, 
	size INTEGER NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_config_texts PRIMARY KEY (sha256)
);
INSERT INTO "config_texts" VALUES('config_texts.sha256',7,'config_texts.content');
CREATE TABLE controllers (
	id VARCHAR(12) NOT NULL, 
	url TEXT NOT NULL, 
	lease_until FLOAT NOT NULL, 
	CONSTRAINT pk_controllers PRIMARY KEY (id)
);
INSERT INTO "controllers" VALUES('controllers.','controllers.url',1.5);
CREATE TABLE host_keys (
	public_key VARCHAR(64) NOT NULL, 
	host VARCHAR(63) NOT NULL, 
	token_id VARCHAR(12) NOT NULL, 
	issued_at FLOAT NOT NULL, 
	revoked_at FLOAT, 
	CONSTRAINT pk_host_keys PRIMARY KEY (public_key)
);
INSERT INTO "host_keys" VALUES('host_keys.public_key','host_keys.host','host_keys.to',1.5,1.5);
CREATE TABLE "hosts" (
	name VARCHAR(63) NOT NULL, 
	management_subnet VARCHAR(18) NOT NULL, 
	labels JSON DEFAULT '{}' NOT NULL, 
	cordoned BOOLEAN DEFAULT 0 NOT NULL, 
	cordon_reason TEXT DEFAULT '' NOT NULL, 
	draining BOOLEAN DEFAULT 0 NOT NULL, 
	joined_at FLOAT, 
	CONSTRAINT pk_hosts PRIMARY KEY (name)
);
INSERT INTO "hosts" VALUES('hosts.name','hosts.management_s','{"of": "hosts.labels"}',1,'hosts.cordon_reason',1,1.5);
CREATE TABLE image_defaults (
	device VARCHAR(63) NOT NULL, 
	provider VARCHAR(32) NOT NULL, 
	image_id VARCHAR(12) NOT NULL, 
	CONSTRAINT pk_image_defaults PRIMARY KEY (device, provider), 
	CONSTRAINT fk_image_defaults_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);
INSERT INTO "image_defaults" VALUES('image_defaults.device','image_defaults.provider','images.id');
CREATE TABLE image_devices (
	image_id VARCHAR(12) NOT NULL, 
	device VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_image_devices PRIMARY KEY (image_id, device), 
	CONSTRAINT fk_image_devices_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);
INSERT INTO "image_devices" VALUES('images.id','image_devices.device');
CREATE TABLE image_jobs (
	id VARCHAR(12) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	request JSON NOT NULL, 
	memory JSON NOT NULL, 
	"view" JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	finished_at FLOAT, 
	CONSTRAINT pk_image_jobs PRIMARY KEY (id)
);
INSERT INTO "image_jobs" VALUES('image_jobs.i','image_jobs.kind','image_jobs.state','{"of": "image_jobs.request"}','{"of": "image_jobs.memory"}','{"of": "image_jobs.view"}',1.5,1.5);
CREATE TABLE image_removals (
	host VARCHAR(63) NOT NULL, 
	provider VARCHAR(32) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	content VARCHAR(71) NOT NULL, 
	pin JSON NOT NULL, 
	generation BIGINT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_image_removals PRIMARY KEY (host, provider, name, content)
);
INSERT INTO "image_removals" VALUES('image_removals.host','image_removals.provider','image_removals.name','image_removals.content','{"of": "image_removals.pin"}',7,1.5);
CREATE TABLE image_uploads (
	id VARCHAR(32) NOT NULL, 
	file TEXT NOT NULL, 
	size BIGINT, 
	sha256 VARCHAR(64) NOT NULL, 
	token VARCHAR(64) NOT NULL, 
	options JSON NOT NULL, 
	job_id VARCHAR(12), 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	CONSTRAINT pk_image_uploads PRIMARY KEY (id)
);
INSERT INTO "image_uploads" VALUES('image_uploads.id','image_uploads.file',7,'image_uploads.sha256','image_uploads.token','{"of": "image_uploads.options"}','image_upload',1.5,1.5);
CREATE TABLE image_wishes (
	image_id VARCHAR(12) NOT NULL, 
	host VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_image_wishes PRIMARY KEY (image_id, host), 
	CONSTRAINT fk_image_wishes_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);
INSERT INTO "image_wishes" VALUES('images.id','image_wishes.host');
CREATE TABLE images (
	id VARCHAR(12) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	provider VARCHAR(32) NOT NULL, 
	format VARCHAR(16) NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	content VARCHAR(71) NOT NULL, 
	size BIGINT NOT NULL, 
	virtual_size BIGINT NOT NULL, 
	architecture VARCHAR(32) NOT NULL, 
	version TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	problem JSON, 
	needs JSON NOT NULL, 
	proposals JSON NOT NULL, 
	provenance JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	verified_at FLOAT NOT NULL, 
	CONSTRAINT pk_images PRIMARY KEY (id), 
	CONSTRAINT uq_images_name UNIQUE (name)
);
INSERT INTO "images" VALUES('images.id','images.name','images.provider','images.format','images.digest','images.content',7,7,'images.architecture','images.version','images.state','{"of": "images.problem"}','{"of": "images.needs"}','{"of": "images.proposals"}','{"of": "images.provenance"}',1.5,1.5);
CREATE TABLE installation (
	id VARCHAR(12) NOT NULL, 
	created_at FLOAT NOT NULL, pair_secret VARCHAR(64), 
	CONSTRAINT pk_installation PRIMARY KEY (id)
);
INSERT INTO "installation" VALUES('installation',1.5,'installation.pair_secret');
CREATE TABLE join_tokens (
	id VARCHAR(12) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	host VARCHAR(63) NOT NULL, 
	labels JSON NOT NULL, 
	note TEXT NOT NULL, 
	uses_left INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	CONSTRAINT pk_join_tokens PRIMARY KEY (id)
);
INSERT INTO "join_tokens" VALUES('join_tokens.','join_tokens.sha256','join_tokens.host','{"of": "join_tokens.labels"}','join_tokens.note',7,1.5,1.5);
CREATE TABLE lab_hosts (
	lab_id VARCHAR(12) NOT NULL, 
	host VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_lab_hosts PRIMARY KEY (lab_id, host), 
	CONSTRAINT fk_lab_hosts_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "lab_hosts" VALUES('labs.id','lab_hosts.host');
CREATE TABLE lab_leases (
	lab_id VARCHAR(12) NOT NULL, 
	controller_id VARCHAR(12) NOT NULL, 
	term INTEGER NOT NULL, 
	CONSTRAINT pk_lab_leases PRIMARY KEY (lab_id)
);
INSERT INTO "lab_leases" VALUES('lab_leases.l','lab_leases.c',7);
CREATE TABLE labs (
	id VARCHAR(12) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	created_at FLOAT NOT NULL, 
	generation INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	removing BOOLEAN NOT NULL, 
	allow_privileged BOOLEAN NOT NULL, 
	CONSTRAINT pk_labs PRIMARY KEY (id), 
	CONSTRAINT uq_labs_name UNIQUE (name)
);
INSERT INTO "labs" VALUES('labs.id','labs.name',1.5,7,7,1,1);
CREATE TABLE link_impairments (
	lab_id VARCHAR(12) NOT NULL, 
	link_id VARCHAR(32) NOT NULL, 
	impairment JSON NOT NULL, 
	until FLOAT, 
	CONSTRAINT pk_link_impairments PRIMARY KEY (lab_id, link_id), 
	CONSTRAINT fk_link_impairments_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "link_impairments" VALUES('labs.id','link_impairments.link_id','{"of": "link_impairments.impairment"}',1.5);
CREATE TABLE moves (
	id VARCHAR(12) NOT NULL, 
	lab_id VARCHAR(12) NOT NULL, 
	node_id VARCHAR(12) NOT NULL, 
	source VARCHAR(63) NOT NULL, 
	target VARCHAR(63) NOT NULL, 
	reason VARCHAR(16) NOT NULL, 
	phase VARCHAR(16) NOT NULL, 
	token VARCHAR(64) NOT NULL, 
	error JSON, 
	created_at FLOAT NOT NULL, 
	changed_at FLOAT NOT NULL, 
	CONSTRAINT pk_moves PRIMARY KEY (id), 
	CONSTRAINT fk_moves_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "moves" VALUES('moves.id','labs.id','moves.node_i','moves.source','moves.target','moves.reason','moves.phase','moves.token','{"of": "moves.error"}',1.5,1.5);
CREATE TABLE nat_leases (
	subnet VARCHAR(18) NOT NULL, 
	segment_id VARCHAR(32) NOT NULL, 
	lab_id VARCHAR(12) NOT NULL, 
	CONSTRAINT pk_nat_leases PRIMARY KEY (subnet), 
	CONSTRAINT fk_nat_leases_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_nat_leases_segment_id UNIQUE (segment_id)
);
INSERT INTO "nat_leases" VALUES('nat_leases.subnet','nat_leases.segment_id','labs.id');
CREATE TABLE node_definitions (
	lab_id VARCHAR(12) NOT NULL, 
	node_id VARCHAR(12) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	definition JSON NOT NULL, 
	CONSTRAINT pk_node_definitions PRIMARY KEY (lab_id, node_id), 
	CONSTRAINT fk_node_definitions_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "node_definitions" VALUES('labs.id','node_definit','node_definitions.sha256','{"of": "node_definitions.definition"}');
CREATE TABLE nodes (
	id VARCHAR(12) NOT NULL, 
	lab_id VARCHAR(12) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	device TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	host VARCHAR(63) NOT NULL, 
	power VARCHAR(3) NOT NULL, 
	incarnation INTEGER NOT NULL, 
	restarts INTEGER NOT NULL, 
	attention INTEGER NOT NULL, 
	mgmt_ipv4 VARCHAR(15), 
	ports INTEGER, 
	problem JSON, 
	CONSTRAINT pk_nodes PRIMARY KEY (id), 
	CONSTRAINT fk_nodes_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_nodes_lab_id_name UNIQUE (lab_id, name), 
	CONSTRAINT uq_nodes_host_mgmt_ipv4 UNIQUE (host, mgmt_ipv4)
);
INSERT INTO "nodes" VALUES('nodes.id','labs.id','nodes.name','nodes.device','nodes.provider','nodes.host','nod',7,7,7,'nodes.mgmt_ipv4',7,'{"of": "nodes.problem"}');
CREATE TABLE operations (
	id VARCHAR(12) NOT NULL, 
	lab_id VARCHAR(12) NOT NULL, 
	lab VARCHAR(63) NOT NULL, 
	verb VARCHAR(16) NOT NULL, 
	goal VARCHAR(16) NOT NULL, 
	generation INTEGER NOT NULL, 
	targets JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	done INTEGER NOT NULL, 
	total INTEGER NOT NULL, 
	errors JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	finished_at FLOAT, 
	CONSTRAINT pk_operations PRIMARY KEY (id)
);
INSERT INTO "operations" VALUES('operations.i','operations.l','operations.lab','operations.verb','operations.goal',7,'{"of": "operations.targets"}','operations.state',7,7,'{"of": "operations.errors"}',1.5,1.5);
CREATE TABLE revisions (
	lab_id VARCHAR(12) NOT NULL, 
	number INTEGER NOT NULL, 
	topology TEXT NOT NULL, 
	files JSON NOT NULL, 
	source TEXT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_revisions PRIMARY KEY (lab_id, number), 
	CONSTRAINT fk_revisions_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "revisions" VALUES('labs.id',7,'revisions.topology','{"of": "revisions.files"}','revisions.source','revisions.sha256',1.5);
CREATE TABLE vni_leases (
	vni INTEGER NOT NULL, 
	link_id VARCHAR(32) NOT NULL, 
	lab_id VARCHAR(12) NOT NULL, released INTEGER, 
	CONSTRAINT pk_vni_leases PRIMARY KEY (vni), 
	CONSTRAINT fk_vni_leases_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_vni_leases_link_id UNIQUE (link_id)
);
INSERT INTO "vni_leases" VALUES(7,'vni_leases.link_id','labs.id',7);
CREATE INDEX ix_operations_lab_id ON operations (lab_id);
CREATE INDEX ix_operations_state ON operations (state);
CREATE INDEX ix_config_nodes_lab ON config_nodes (lab);
CREATE INDEX ix_config_revisions_sha256 ON config_revisions (sha256);
CREATE INDEX ix_link_impairments_until ON link_impairments (until);
CREATE INDEX ix_images_digest ON images (digest);
CREATE INDEX ix_image_uploads_expires_at ON image_uploads (expires_at);
CREATE INDEX ix_image_jobs_state ON image_jobs (state);
CREATE INDEX ix_host_keys_host ON host_keys (host);
CREATE INDEX ix_join_tokens_expires_at ON join_tokens (expires_at);
CREATE INDEX ix_moves_node_id ON moves (node_id);
CREATE INDEX ix_lab_leases_controller_id ON lab_leases (controller_id);
COMMIT;
