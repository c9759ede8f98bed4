BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
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
CREATE TABLE hosts (
	name VARCHAR(63) NOT NULL, 
	management_subnet VARCHAR(18) NOT NULL, 
	CONSTRAINT pk_hosts PRIMARY KEY (name)
);
INSERT INTO "hosts" VALUES('hosts.name','hosts.management_s');
CREATE TABLE installation (
	id VARCHAR(12) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_installation PRIMARY KEY (id)
);
INSERT INTO "installation" VALUES('installation',1.5);
CREATE TABLE lab_hosts (
	lab_id VARCHAR(12) NOT NULL, 
	host VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_lab_hosts PRIMARY KEY (lab_id, host), 
	CONSTRAINT fk_lab_hosts_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE
);
INSERT INTO "lab_hosts" VALUES('labs.id','lab_hosts.host');
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
	lab_id VARCHAR(12) NOT NULL, 
	CONSTRAINT pk_vni_leases PRIMARY KEY (vni), 
	CONSTRAINT fk_vni_leases_lab_id_labs FOREIGN KEY(lab_id) REFERENCES labs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_vni_leases_link_id UNIQUE (link_id)
);
INSERT INTO "vni_leases" VALUES(7,'vni_leases.link_id','labs.id');
CREATE INDEX ix_operations_lab_id ON operations (lab_id);
CREATE INDEX ix_operations_state ON operations (state);
CREATE INDEX ix_config_nodes_lab ON config_nodes (lab);
CREATE INDEX ix_config_revisions_sha256 ON config_revisions (sha256);
COMMIT;
